"""Any network of timm with ``features_only`` as a Detectron2 backbone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.channel_norm import ChannelNorm
from .padding import pad_to_multiple
from .simple_pyramid import ScaledLevels
from .timm_features import build_features, channels_last_outputs, inner
from .timm_names import places, plain_name

_NORMS = ("", "BN", "FrozenBN", "SyncBN")


class TimmBackbone(Backbone):
    """``(B, C, H, W)`` to maps ``(B, C_i, H / stride, W / stride)`` of a network of timm: ResNet, ConvNeXt,
    Swin, PVTv2, ViT, and any other with ``features_only``.

    Maps are named by their stride as in Detectron2, ``res2`` (4) to ``res5`` (32); those of a network with
    one stride (ViT) by their block, ``block11``, unless ``names`` says otherwise. A pyramid belongs on top:
    Detectron2's ``FPN``, or :class:`~itpn_d2.backbone.simple_pyramid.SimplePyramid` over a plain ViT.

    The image is zero-padded to multiples of ``size_divisibility``; positions and windows follow its size. A
    network that is built for one size (Hiera, BEiT, CoAtNet) has the image padded to ``img_size``, and
    refuses larger ones. Padding is not masked: none of timm's networks can do that.

    Args:
        name: timm model name.
        out_indices: which of the network's features, negative from the end; None: those of strides 4 to 32
            that are there, or the last one of a network of one stride.
        names: of the maps, as many as there are.
        img_size: pixels the network is built for; see :func:`~itpn_d2.backbone.timm_features.build_features`.
        in_chans: input channels.
        drop_path: largest rate of stochastic depth, which grows with depth as timm has it.
        level_norms: a layer norm on each map, as detectors over Swin and ConvNeXt have it.
        norm: replacement of batch norms: ``FrozenBN`` or ``SyncBN``; ``BN`` or '' keeps them.
        freeze_at: 0 nothing; 1 the stem, positions and tokens; n also the first n - 1 stages (blocks, where
            there are no stages) with their batch norms.
        checkpointing: recompute activations in the backward pass, in all blocks, where timm offers it.
        options: further arguments of timm's constructor, such as ``window_size`` or ``pretrained``.

    Raises:
        ValueError: an option that the network or this class does not know.
    """

    def __init__(
        self,
        name: str,
        out_indices: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int = 3,
        drop_path: float = 0.0,
        level_norms: bool = False,
        norm: str = "",
        freeze_at: int = 0,
        checkpointing: bool = False,
        options: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        arguments = dict(options or {})
        if norm not in _NORMS:
            raise ValueError(f"norm {norm!r}: choose {', '.join(map(repr, _NORMS))}")
        if in_chans != 3:
            arguments["in_chans"] = in_chans
        if drop_path:
            arguments["drop_path_rate"] = drop_path
        img_size = arguments.pop("img_size", img_size)
        size = img_size if img_size is None or isinstance(img_size, int) else (img_size[0], img_size[1])
        network, self._sizes = build_features(name, out_indices, size, always_partition=True, **arguments)
        if norm == "FrozenBN":
            network = freeze_batch_norm_2d(network)
        elif norm == "SyncBN":
            network = convert_sync_batchnorm(network)
        self.network = network
        self._channels_last = channels_last_outputs(network)
        strides, channels = network.feature_info.reduction(), network.feature_info.channels()
        self._out_features = list(names) if names is not None else _names(network, strides)
        if len(self._out_features) != len(strides):
            raise ValueError(f"names {self._out_features}: {name} gives {len(strides)} maps")
        self._shapes = {
            level: ShapeSpec(channels=c, stride=s)
            for level, c, s in zip(self._out_features, channels, strides, strict=True)
        }
        self.level_norms = nn.ModuleList(ChannelNorm(c) for c in channels if level_norms)
        if checkpointing:
            self.set_grad_checkpointing()
        self.freeze(freeze_at)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass; ValueError where timm's network can't."""
        network = inner(self.network)
        try:
            network.set_grad_checkpointing(enable)
        except (AttributeError, AssertionError) as error:
            raise ValueError(
                f"timm's {type(network).__name__} can't recompute activations: checkpointing=False"
            ) from error

    def freeze(self, freeze_at: int) -> None:
        """Stop the gradient of the first parts of the network; see the class docstring.

        Raises:
            ValueError: ``freeze_at`` is negative, or above the number of parts plus one.
        """
        parameters = {plain_name(n): p for n, p in self.network.named_parameters()}
        found = places(list(parameters))
        blocks = sorted({p for p in found.values() if p is not None})
        numbers = sorted({stage for stage, _ in blocks})
        # a plain list of blocks has no stages
        parts = [p for p in blocks if p[1] >= 0] if len(numbers) == 1 else numbers
        if not 0 <= freeze_at <= len(parts) + 1:
            raise ValueError(f"freeze_at {freeze_at}: choose 0 to {len(parts) + 1}")
        if freeze_at == 0:
            return
        frozen = set(parts[: freeze_at - 1])
        begun = False
        for name, parameter in parameters.items():
            place = found[name]
            begun = begun or place is not None
            part = place if place is None or len(numbers) == 1 else place[0]
            if part in frozen if place is not None else not begun:
                parameter.requires_grad_(False)
        for name, module in list(self.network.named_modules()):
            still = not any(p.requires_grad for p in module.parameters())
            if name and still and isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                parent, _, child = name.rpartition(".")
                setattr(self.network.get_submodule(parent), child, freeze_batch_norm_2d(module))

    @property
    def size_divisibility(self) -> int:
        """What images are padded to multiples of, in pixels."""
        return self._sizes.multiple

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What Detectron2 pads a batch by, in pixels: multiples, and the side of a square for a network of
        one square size (0 for others)."""
        fixed = self._sizes.fixed
        square = fixed[0] if fixed and fixed[0] == fixed[1] else 0
        return {"size_divisibility": self.size_divisibility, "square_size": square}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each map by name."""
        return dict(self._shapes)

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self._sizes.fixed is None:
            return pad_to_multiple(images, self._sizes.multiple)
        bottom, right = self._sizes.fixed[0] - height, self._sizes.fixed[1] - width
        if bottom < 0 or right < 0:
            raise ValueError(
                f"an image of {height}x{width} pixels: {type(inner(self.network)).__name__} is built for "
                f"{self._sizes.fixed[0]}x{self._sizes.fixed[1]}; "
                f"give the backbone the largest size as img_size"
            )
        return F.pad(images, (0, right, 0, bottom))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features of a batch ``(B, C, H, W)``, normalised."""
        maps = self.network(self._padded(images))
        if self._channels_last:
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        # what was padded beyond whole strides is of no use to anybody
        coarsest = max(shape.stride for shape in self._shapes.values())
        sides = [-(-side // coarsest) * coarsest for side in images.shape[-2:]]
        strides = [shape.stride for shape in self._shapes.values()]
        maps = [m[..., : sides[0] // s, : sides[1] // s] for m, s in zip(maps, strides, strict=True)]
        if len(self.level_norms):
            maps = [norm(m) for norm, m in zip(self.level_norms, maps, strict=True)]
        return dict(zip(self._out_features, maps, strict=True))


def _names(network: Any, strides: list[int]) -> list[str]:
    if len(set(strides)) == len(strides) and (len(strides) > 1 or not _isotropic(network)):
        if any(stride & (stride - 1) for stride in strides):
            return [f"stride{stride}" for stride in strides]
        return [f"res{int(math.log2(stride))}" for stride in strides]
    return [f"block{index}" for index in network.feature_info.out_indices]


def _isotropic(network: Any) -> bool:
    return len({entry["reduction"] for entry in network.feature_info.info}) == 1


def timm_shapes(
    name: str,
    levels: Sequence[str] | None = None,
    out_indices: Sequence[int] | None = None,
    scaled: bool = False,
    options: Mapping[str, Any] | None = None,
) -> dict[str, ShapeSpec]:
    """Channels and strides of a :class:`TimmBackbone` of these arguments, for heads that are built beside it.

    Args:
        levels: which maps, None for all.
        scaled: of the levels that :class:`~itpn_d2.backbone.simple_pyramid.ScaledLevels` makes of them.
    """
    chosen = {k: v for k, v in (options or {}).items() if k != "pretrained"}
    with torch.device("meta"):
        backbone: Backbone = TimmBackbone(name, out_indices, options=chosen)
        shapes = (ScaledLevels(backbone, norm="BN") if scaled else backbone).output_shape()
    return shapes if levels is None else {level: shapes[level] for level in levels}
