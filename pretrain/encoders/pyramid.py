"""Trunk and pyramid as one encoder."""

from typing import Any

from torch import Tensor, nn

from itpn_d2.backbone import IntegralPyramid, Trunk, get_variant
from itpn_d2.layers.units import map_to_units

from ..fusion import UNITS, LevelFusion
from .base import Encoder, check_drop


class Backbone(nn.Module):
    """Trunk and pyramid under the names they have in a detector."""

    def __init__(self, trunk: Trunk, pyramid: IntegralPyramid):
        super().__init__()
        self.trunk, self.pyramid = trunk, pyramid

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``(B, 3, H, W)`` to p4, p3, p2, channel-last maps at strides 16, 8, 4."""
        return self.pyramid.top_down(*self.trunk(image))


def build_backbone(
    name: str, fpn_dim: int = 256, fpn_depth: int | None = None, image_size: int = 224, **trunk: Any
) -> Backbone:
    """Any registered variant with its pyramid.

    Args:
        fpn_depth: blocks after each addition of the pyramid, None for the family's own number.
        image_size: pixels; the position table has one entry per 16 of them.
        trunk: options of the trunk's constructor.
    """
    variant = get_variant(name)
    pyramid: dict[str, Any] = {"fpn_dim": fpn_dim, "channels": trunk.get("channels", variant.channels)}
    if fpn_depth is not None:
        pyramid["fpn_depth"] = fpn_depth
    grid = (image_size // 16, image_size // 16)
    return Backbone(variant.trunk(**{"pos_grid": grid, **trunk}), variant.pyramid(**pyramid))


class PyramidEncoder(Encoder):
    """A trunk with its pyramid; a token is the sum of what each level has at its 16x16 pixels.

    The fusion is that of Fast-iTPN's own pre-training (:class:`~pretrain.fusion.LevelFusion`), so that the
    pyramid learns with the trunk. Positions resample themselves: any size that is a multiple of 16 works at
    any time.

    Args:
        width: channels per token, None for the width of the trunk's last stage.
        drop_last: stage-3 blocks left out at the end.
    """

    backbone: Backbone

    def __init__(
        self, backbone: Backbone, width: int | None = None, drop_last: int = 0, norm_eps: float = 1e-6
    ):
        super().__init__()
        trunk = backbone.trunk
        check_drop(drop_last, len(trunk.stage3))
        if drop_last:
            trunk.stage3 = trunk.stage3[:-drop_last]
            trunk.depths = (*trunk.depths[:2], len(trunk.stage3))
        self.backbone = backbone
        self.stride, self.width = 16, width or trunk.channels[-1]
        self.fusion = LevelFusion(backbone.pyramid.fpn_dim, self.width, norm_eps=norm_eps)
        self.norm = nn.LayerNorm(self.width, eps=norm_eps)

    def forward(self, image: Tensor) -> Tensor:
        p4, p3, p2 = (map_to_units(x, unit) for x, unit in zip(self.backbone(image), UNITS, strict=True))
        return self.norm(sum(self.fusion((p4, p3, p2))))
