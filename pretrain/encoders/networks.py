"""Encoders over timm's networks."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import timm
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from itpn_d2.layers.units import map_to_tokens

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
        return map_to_tokens(self.backbone.forward_features(image))


class TimmEncoder(Encoder):
    """The last feature map of any timm model that has ``features_only``, such as a ConvNet, and a norm.

    Args:
        name: timm model name.
        **options: further arguments of ``timm.create_model``.
    """

    def __init__(self, name: str, **options: Any):
        super().__init__()
        network: Any = timm.create_model(name, features_only=True, out_indices=(-1,), **options)
        self.backbone = network
        self.stride, self.width = network.feature_info.reduction()[-1], network.feature_info.channels()[-1]
        self.channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        self.norm = nn.LayerNorm(self.width, eps=1e-6)

    def _resize(self, size: tuple[int, int]) -> None:
        inner: Any = getattr(self.backbone, "model", self.backbone)
        if hasattr(inner, "set_input_size"):
            inner.set_input_size(img_size=size)

    def forward(self, image: Tensor) -> Tensor:
        x = self.backbone(image)[-1]
        return self.norm(map_to_tokens(x if self.channels_last else x.permute(0, 2, 3, 1)))
