"""Pyramids over plain ViTs, whose maps all have one stride."""

import math
from collections.abc import Sequence
from typing import Any

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import Backbone
from torch import Tensor, nn

from ..layers.channel_norm import ChannelNorm
from .padding import pad_to_multiple

SCALES = (4.0, 2.0, 1.0, 0.5)


def _norm(norm: str, channels: int) -> nn.Module | None:
    # Detectron2 0.6 has no LN
    return ChannelNorm(channels) if norm == "LN" else get_norm(norm, channels)


def _doubled(width: int, out: int) -> nn.Module:
    return nn.ConvTranspose2d(width, out, 2, stride=2)


class SimplePyramid(Backbone):
    """Levels of one map of a plain ViT, by transposed convolutions and pooling (ViTDet, 2022, section 3).

    Arguments and names of parameters are those of upstream Detectron2's ``SimpleFeaturePyramid``, which its
    release 0.6 lacks; that one takes a :class:`~itpn_d2.backbone.timm_backbone.TimmBackbone` as well.

    Args:
        net: backbone with the map ``in_feature``.
        in_feature: its name.
        out_channels: of every level.
        scale_factors: sizes of the levels beside the map's: 4, 2, 1 or .5.
        top_block: a further level, such as Detectron2's ``LastLevelMaxPool``.
        norm: after each convolution; ``LN`` is over channels.
        square_pad: side to pad a training image to (upstream's ``padding_constraints``), 0 for none.

    Raises:
        ValueError: another scale, or a stride that is no power of two.
    """

    def __init__(
        self,
        net: Backbone,
        in_feature: str,
        out_channels: int,
        scale_factors: Sequence[float] = SCALES,
        top_block: Any = None,
        norm: str = "LN",
        square_pad: int = 0,
    ):
        super().__init__()
        shape = net.output_shape()[in_feature]
        self.net, self.in_feature, self.top_block = net, in_feature, top_block
        self._square_pad = square_pad
        levels = [_level(shape.stride, scale) for scale in scale_factors]
        self._levels: dict[str, str] = {}  # names of the modules, which are upstream's
        self._shapes: dict[str, ShapeSpec] = {}
        for level, scale in zip(levels, scale_factors, strict=True):
            width = shape.channels
            layers: list[nn.Module | None] = []
            if scale == 4:
                layers = [_doubled(width, width // 2), _norm(norm, width // 2), nn.GELU()]
                layers.append(_doubled(width // 2, width // 4))
                width //= 4
            elif scale == 2:
                layers = [_doubled(width, width // 2)]
                width //= 2
            elif scale == 0.5:
                layers = [nn.MaxPool2d(2)]
            bias = norm == ""
            layers += [
                Conv2d(width, out_channels, 1, bias=bias, norm=_norm(norm, out_channels)),
                Conv2d(out_channels, out_channels, 3, padding=1, bias=bias, norm=_norm(norm, out_channels)),
            ]
            self._levels[f"p{level}"] = f"simfp_{level}"
            self.add_module(f"simfp_{level}", nn.Sequential(*(part for part in layers if part is not None)))
            self._shapes[f"p{level}"] = ShapeSpec(channels=out_channels, stride=2**level)
        if top_block is not None:
            for extra in range(top_block.num_levels):
                number = levels[-1] + extra + 1
                self._shapes[f"p{number}"] = ShapeSpec(channels=out_channels, stride=2**number)

    @property
    def size_divisibility(self) -> int:
        """What images are padded to multiples of, in pixels: the net's, or the coarsest stride up to 32."""
        coarsest = max(shape.stride for shape in self._shapes.values() if shape.stride <= 32)
        return max(self.net.size_divisibility, coarsest)

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What Detectron2 pads a batch by: multiples, and the side of a square (0 for none), in pixels."""
        square = self._square_pad or getattr(self.net, "padding_constraints", {}).get("square_size", 0)
        return {"size_divisibility": self.size_divisibility, "square_size": square}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each level by name, those of ``top_block`` included."""
        return dict(self._shapes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``(B, C, H, W)`` to the levels, ``p2`` (stride 4) first."""
        found = self.net(pad_to_multiple(images, self.size_divisibility))
        source = found[self.in_feature]
        maps = {name: self.get_submodule(module)(source) for name, module in self._levels.items()}
        if self.top_block is not None:
            wanted = self.top_block.in_feature
            top = self.top_block(found[wanted] if wanted in found else maps[wanted])
            names = list(self._shapes)[len(maps) :]
            maps.update(zip(names, top, strict=True))
        return maps


class ScaledLevels(Backbone):
    """Four maps of a plain ViT at strides 4 to 32, each from its own depth (BEiT's segmentor, 2021): two
    transposed convolutions, one, none, and pooling. The maps keep their width and their names are ``p2`` to
    ``p5``.

    Args:
        net: backbone with four maps of stride 16.
        norm: between the two transposed convolutions.

    Raises:
        ValueError: other maps.
    """

    def __init__(self, net: Backbone, norm: str = "SyncBN"):
        super().__init__()
        shapes = net.output_shape()
        if len(shapes) != 4 or {s.stride for s in shapes.values()} != {16}:
            raise ValueError(
                f"four maps of stride 16 are needed, but the network gives {shapes}: choose four out_indices"
            )
        self.net, self._inputs = net, list(shapes)
        widths = [shapes[name].channels for name in self._inputs]
        first: list[nn.Module | None] = [
            _doubled(widths[0], widths[0]),
            _norm(norm, widths[0]),
            nn.GELU(),
            _doubled(widths[0], widths[0]),
        ]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*(part for part in first if part is not None)),
                _doubled(widths[1], widths[1]),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self._shapes = {
            f"p{i + 2}": ShapeSpec(channels=width, stride=4 * 2**i) for i, width in enumerate(widths)
        }

    @property
    def size_divisibility(self) -> int:
        """What images are padded to multiples of, in pixels: 32 or the net's."""
        return max(self.net.size_divisibility, 32)

    @property
    def padding_constraints(self) -> dict[str, int]:
        """What Detectron2 pads a batch by: multiples, and the net's square (0 for none), in pixels."""
        square = getattr(self.net, "padding_constraints", {}).get("square_size", 0)
        return {"size_divisibility": self.size_divisibility, "square_size": square}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of ``p2`` to ``p5``."""
        return dict(self._shapes)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """``(B, C, H, W)`` to ``p2`` to ``p5``."""
        found = self.net(pad_to_multiple(images, self.size_divisibility))
        parts = zip(self._shapes, self._inputs, self.levels, strict=True)
        return {name: level(found[source]) for name, source, level in parts}


def _level(stride: int, scale: float) -> int:
    """log2 of a level's stride.

    Raises:
        ValueError: the scale is none of :data:`SCALES`, or the stride is no power of two.
    """
    if scale not in SCALES:
        raise ValueError(f"scale_factors: {scale} is not one of {', '.join(map(str, SCALES))}")
    level = math.log2(stride / scale)
    if level != int(level):
        raise ValueError(
            f"a map of stride {stride} gives no levels of strides 4, 8, ...: "
            f"build the network with patch_size=16"
        )
    return int(level)
