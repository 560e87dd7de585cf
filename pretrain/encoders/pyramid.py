"""Trunk and pyramid as one encoder."""

from torch import Tensor, nn

from itpn_d2.backbone import FastITPN, IntegralPyramid
from itpn_d2.layers.units import map_to_units

from .base import Encoder, check_drop


class Backbone(nn.Module):
    """Trunk and pyramid under the names they have in a detector."""

    def __init__(self, trunk: FastITPN, pyramid: IntegralPyramid):
        super().__init__()
        self.trunk, self.pyramid = trunk, pyramid

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, 3, H, W)`` to p4, p3, p2, channel-last maps at strides 16, 8, 4."""
        return self.pyramid.top_down(*self.trunk(image))


class PyramidEncoder(Encoder):
    """Fast-iTPN trunk with its pyramid; a token is the sum of what each level has at its 16x16 pixels.

    Per level: LayerNorm, then a linear layer over the 1, 2x2 or 4x4 cells of the token (the fusion of
    Fast-iTPN's own pre-training), so that the pyramid learns with the trunk. Positions resample themselves,
    any size that is a multiple of 16 works at any time.

    Args:
        width: channels per token, None for the width of the trunk's last stage.
        drop_last: stage-3 blocks left out at the end.
    """

    backbone: Backbone

    def __init__(
        self, backbone: Backbone, width: int | None = None, drop_last: int = 0, norm_eps: float = 1e-6
    ):
        super().__init__()
        trunk, dim = backbone.trunk, backbone.pyramid.fpn_dim
        check_drop(drop_last, len(trunk.stage3))
        if drop_last:
            trunk.stage3 = trunk.stage3[:-drop_last]
            trunk.depths = (*trunk.depths[:2], len(trunk.stage3))
        self.backbone = backbone
        self.stride, self.width = 16, width or trunk.channels[-1]
        self.units = (1, 2, 4)
        self.level_norms = nn.ModuleList(nn.LayerNorm(dim, eps=norm_eps) for _ in self.units)
        self.level_embeds = nn.ModuleList(nn.Linear(u * u * dim, self.width) for u in self.units)
        self.norm = nn.LayerNorm(self.width, eps=norm_eps)

    def forward(self, image: Tensor) -> Tensor:
        levels = self.backbone(image)
        embedded = [
            embed(map_to_units(norm(x), unit).flatten(2))
            for x, unit, norm, embed in zip(
                levels, self.units, self.level_norms, self.level_embeds, strict=True
            )
        ]
        return self.norm(embedded[0] + embedded[1] + embedded[2])
