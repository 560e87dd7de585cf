"""Layers of the integrally pre-trained backbones; torch and timm only."""

from .attention import Attention
from .mlp import Mlp, SwiGLU
from .patch import PatchEmbed, PatchMerge, PatchSplit
from .position import PositionCache, content_sizes, resample_grid, token_mask

__all__ = [
    "Attention",
    "Mlp",
    "PatchEmbed",
    "PatchMerge",
    "PatchSplit",
    "PositionCache",
    "SwiGLU",
    "content_sizes",
    "resample_grid",
    "token_mask",
]
