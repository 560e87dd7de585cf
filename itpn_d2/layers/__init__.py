"""Layers of the integrally pre-trained backbones; torch and timm only."""

from .attention import Attention
from .deformable import DeformableAttention, deformable_samples
from .deformable_torch import grid_levels, sample_levels
from .draws import Draws, Reseeded, drawing, draws_of
from .drop import DropPath, draw_by_sample
from .everywhere import apart, everywhere, shares
from .mlp import Mlp, SwiGLU
from .padding import ImageSizes, content_sizes, token_grids, token_mask
from .patch import PatchEmbed, PatchMerge, PatchSplit
from .position import PositionCache, ResampleRule, resample_grid, resample_to_each
from .relative_position import DecomposedBias, TableBias
from .sampling import sample_points
from .stripes import in_stripes
from .transfer import upload
from .windows import WindowLayout, Windows, cut_windows, window_attention

__all__ = [
    "Attention",
    "DecomposedBias",
    "DeformableAttention",
    "Draws",
    "DropPath",
    "ImageSizes",
    "Mlp",
    "PatchEmbed",
    "PatchMerge",
    "PatchSplit",
    "PositionCache",
    "ResampleRule",
    "Reseeded",
    "SwiGLU",
    "TableBias",
    "WindowLayout",
    "Windows",
    "content_sizes",
    "cut_windows",
    "deformable_samples",
    "draw_by_sample",
    "drawing",
    "draws_of",
    "apart",
    "everywhere",
    "grid_levels",
    "in_stripes",
    "resample_grid",
    "resample_to_each",
    "sample_levels",
    "sample_points",
    "shares",
    "token_grids",
    "token_mask",
    "upload",
    "window_attention",
]
