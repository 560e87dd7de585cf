"""Encoders over timm's networks."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import timm
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from itpn_d2.backbone.timm_features import build_features, channels_last_outputs, inner
from itpn_d2.checkpoint.timm_trunks import adapt_timm
from itpn_d2.layers.units import map_to_tokens
from itpn_d2.lazy.options import Option, hands_on, options_of

from ..positions import sincos_2d
from .base import Encoder, check_drop, xavier_linears


class ViTEncoder(Encoder):
    """Plain ViT with class token, fixed sine-cosine positions and final norm (timm's VisionTransformer).

    The 12 heads of ViT-B are those of fine-tuning. The published FastMIM ViT-B was pre-trained with 6 (head
    width 128), which no shape reveals: pass ``num_heads=6`` for its weights.

    Args:
        img_size: pixels, one number or (height, width).
        drop_last: blocks left out at the end.
        **options: further arguments of timm's class.
    """

    backbone: VisionTransformer

    @hands_on(lambda given: options_of(VisionTransformer, given).named)
    def __init__(
        self,
        img_size: int | tuple[int, int] = 128,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        norm_eps: float = 1e-6,
        drop_last: int = 0,
        **options: Any,
    ):
        super().__init__()
        check_drop(drop_last, depth)
        self.backbone = VisionTransformer(
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            norm_layer=partial(nn.LayerNorm, eps=norm_eps),
            num_classes=0,
            global_pool="",
            **options,
        )
        if drop_last:
            self.backbone.blocks = self.backbone.blocks[:-drop_last]
        self.stride, self.width, self.num_prefix = patch_size, embed_dim, self.backbone.num_prefix_tokens
        self._native_grid = tuple(self.backbone.patch_embed.grid_size)
        xavier_linears(self.backbone)
        if self.backbone.cls_token is not None:
            nn.init.normal_(self.backbone.cls_token, std=0.02)
        self._fix_positions()

    def _fix_positions(self) -> None:
        grid = tuple(self.backbone.patch_embed.grid_size)
        table = sincos_2d(self.width, grid, self.num_prefix, self._native_grid)
        self.backbone.pos_embed.data = table.to(self.backbone.pos_embed)
        self.backbone.pos_embed.requires_grad_(False)

    def _resize(self, size: tuple[int, int]) -> None:
        # not timm's resampling of the table, which would blur it at every stage: the function is known
        self.backbone.patch_embed.set_input_size(img_size=size)
        self._fix_positions()

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)``, normalised, to ``(B, 1 + N, width)``: the class token, then N row-major."""
        return self.backbone.forward_features(image)


class SwinEncoder(Encoder):
    """Swin transformer with final norm (timm's SwinTransformer); Swin-B by default.

    A new input size scales the windows with it (4 at 128 pixels, 6 at 192, 7 at 224) and resamples the tables
    of relative positions.

    Args:
        window_size: of all stages; a stage whose map is no larger uses one window.
        drop_last: blocks left out at the end, of stage 4 and then of stage 3.
        **options: further arguments of timm's class.
    """

    backbone: SwinTransformer

    @hands_on(lambda given: options_of(SwinTransformer, given).named)
    def __init__(
        self,
        img_size: int | tuple[int, int] = 128,
        patch_size: int = 4,
        embed_dim: int = 128,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
        window_size: int | tuple[int, int] = 4,
        norm_eps: float = 1e-5,
        drop_path: float = 0.0,
        drop_last: int = 0,
        **options: Any,
    ):
        super().__init__()
        check_drop(drop_last, sum(depths[-2:]))
        self.backbone = SwinTransformer(
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=embed_dim,
            depths=tuple(depths),
            num_heads=tuple(num_heads),
            window_size=window_size,
            norm_layer=partial(nn.LayerNorm, eps=norm_eps),
            drop_path_rate=drop_path,
            num_classes=0,
            global_pool="",
            **options,
        )
        for stage in reversed(self.backbone.layers):
            taken = min(drop_last, len(stage.blocks))
            stage.blocks = stage.blocks[: len(stage.blocks) - taken]
            drop_last -= taken
        self.stride = patch_size * 2 ** (len(depths) - 1)
        self.width = self.backbone.num_features
        xavier_linears(self.backbone)

    def _resize(self, size: tuple[int, int]) -> None:
        self.backbone.set_input_size(img_size=size)

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)``, normalised, to ``(B, N, width)``, N row-major."""
        return map_to_tokens(self.backbone.forward_features(image))


def _of_network(given: Mapping[str, Any]) -> Mapping[str, Option] | None:
    """The arguments of the class that a network of timm says it is; None of one that doesn't say."""
    name = str(given.get("name", ""))
    if not timm.is_model(name):
        raise ValueError(f"name={name!r}: timm has no such network")
    kind = inspect.signature(timm.model_entrypoint(name)).return_annotation
    return options_of(kind, given).named if inspect.isclass(kind) and issubclass(kind, nn.Module) else None


class TimmEncoder(Encoder):
    """The last feature map of any timm model that has ``features_only``, such as a ConvNet, and a norm.

    A network that is built for one size follows :meth:`set_input_size`, which a run calls with the size of
    its images: Swin's windows scale with it as those of :class:`SwinEncoder`, tables are resampled. ViT and
    Swin take other sizes without that, too.

    Args:
        name: timm model name.
        img_size: pixels it is built for, None for the network's own.
        **options: further arguments of ``timm.create_model``.
    """

    @hands_on(_of_network)
    def __init__(self, name: str, img_size: int | tuple[int, int] | None = None, **options: Any):
        super().__init__()
        self._build = partial(build_features, name, out_indices=(-1,), **options)
        network, self._sizes = self._build(img_size=img_size)
        self.backbone = network
        self.stride, self.width = network.feature_info.reduction()[-1], network.feature_info.channels()[-1]
        self.norm = nn.LayerNorm(self.width, eps=1e-6)

    def _resize(self, size: tuple[int, int]) -> None:
        if not self._sizes.takes_img_size:
            return
        network = inner(self.backbone)
        if hasattr(network, "set_input_size"):
            network.set_input_size(img_size=size)
            if self._sizes.fixed is not None:
                self._sizes = replace(self._sizes, fixed=size)
        elif size != self._sizes.fixed and self._sizes.fixed is not None:
            self._rebuild(size)

    def _rebuild(self, size: tuple[int, int]) -> None:
        """A network for another size around the parameters of this one; only tables are new."""
        old: Any = self.backbone
        new, self._sizes = self._build(img_size=size)
        new.to(next(old.parameters()).device).train(old.training)
        state = old.state_dict()
        for name, like in new.state_dict().items():
            if state[name].shape != like.shape and (found := adapt_timm(new, name, state[name], like)):
                state[name] = found[0]
        new.load_state_dict(state)
        for name, parameter in old.named_parameters():
            owner, _, part = name.rpartition(".")
            if new.get_parameter(name).shape == parameter.shape:
                setattr(new.get_submodule(owner), part, parameter)
        self.backbone = new

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)``, normalised, to ``(B, N, width)``, N row-major.

        Raises:
            ValueError: the network is built for images of another size.
        """
        fixed = self._sizes.fixed
        if fixed is not None and tuple(image.shape[-2:]) != fixed:
            raise ValueError(
                f"images of {image.shape[-2]}x{image.shape[-1]} pixels: the network is built for "
                f"{fixed[0]}x{fixed[1]}; call set_input_size, or give the encoder img_size={image.shape[-1]}"
            )
        x = self.backbone(image)[-1]
        return self.norm(map_to_tokens(x if channels_last_outputs(self.backbone) else x.permute(0, 2, 3, 1)))
