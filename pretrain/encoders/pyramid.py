"""Trunk and pyramid as one encoder."""

from torch import Tensor, nn

from itpn_d2.backbone import IntegralBackbone
from itpn_d2.layers.units import map_to_units

from ..fusion import UNITS, LevelFusion
from .base import Encoder, check_drop


class PyramidEncoder(Encoder):
    """A trunk with its pyramid; a token is the sum of what each level has at its 16x16 pixels.

    The fusion is that of Fast-iTPN's own pre-training (:class:`~pretrain.fusion.LevelFusion`), so that the
    pyramid learns with the trunk. Positions resample themselves: any size that is a multiple of 16 works at
    any time.

    Args:
        width: channels per token, None for the width of the trunk's last stage.
        drop_last: stage-3 blocks left out at the end.
    """

    backbone: IntegralBackbone

    def __init__(
        self, backbone: IntegralBackbone, width: int | None = None, drop_last: int = 0, norm_eps: float = 1e-6
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
        """``(B, 3, H, W)``, normalised, to ``(B, N, width)``, N row-major."""
        p4, p3, p2 = (
            map_to_units(x, unit) for x, unit in zip(self.backbone.top_down(image), UNITS, strict=True)
        )
        return self.norm(sum(self.fusion((p4, p3, p2))))
