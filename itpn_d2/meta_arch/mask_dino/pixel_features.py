"""The features that masks are predicted on, at stride 4 (Mask DINO's pixel decoder)."""

from torch import Tensor, nn
from torch.nn import functional as F

from ..dino.geometry import Geometry
from ..dino.neck import map_norm


class PixelFeatures(nn.Module):
    """The backbone's finest map, plus the finest level of the encoder's memory enlarged to it.

    Args:
        channels: of the backbone's map.
        dim: of the memory.
        groups: of the norms, see :class:`~itpn_d2.meta_arch.dino.neck.Neck`.
        mask_dim: channels of the result; None: those of the memory.
    """

    def __init__(self, channels: int, dim: int = 256, groups: int | None = None, mask_dim: int | None = None):
        super().__init__()
        self.lateral = nn.Sequential(nn.Conv2d(channels, dim, 1, bias=False), map_norm(dim, groups))
        self.mix = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False), map_norm(dim, groups), nn.ReLU()
        )
        self.proj = nn.Conv2d(dim, mask_dim or dim, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)

    def forward(self, finest: Tensor, memory: Tensor, geometry: Geometry) -> Tensor:
        """
        Args:
            finest: ``(B, channels, H/4, W/4)``.
            memory: ``(B, S, C)``.

        Returns:
            ``(B, mask_dim, H/4, W/4)``.
        """
        height, width = geometry.shapes[0]
        coarse = memory[:, : height * width].transpose(1, 2).unflatten(2, (height, width))
        lateral = self.lateral(finest)
        coarse = F.interpolate(
            coarse.to(lateral.dtype), lateral.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.proj(self.mix(lateral + coarse))
