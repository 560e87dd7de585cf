"""Bilinear samples of maps at points, in float32 at least."""

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Maps at points between their cells, bilinear; what lies outside a map counts as zero.

    This is the project's only caller of ``grid_sample``, because half types must never reach it: on a CPU,
    PyTorch counts a map's cells in 16 bits there and reads wrong memory beyond cell 32767, and anywhere
    bfloat16 rounds points by up to two pixels of 1024.

    Args:
        maps: ``(N, C, H, W)`` of any type, bool included.
        points: ``(N, P, 2)`` or ``(N, P, K, 2)``, (x, y) in fractions of the map's width and height: 0 is the
            left edge of the first cell, 1 the right edge of the last. One that is infinite or no number lies
            outside, and gets no gradient.

    Returns:
        ``(N, C, P)`` or ``(N, C, P, K)`` in float32, in float64 for float64 maps.
    """
    kind = torch.promote_types(maps.dtype, torch.float32)
    grid = 2 * points.to(kind) - 1
    # beyond 2 no cell is touched, whatever the map's size
    grid = torch.where(grid.abs() < 3, grid, 3.0)
    with torch.autocast(maps.device.type, enabled=False):
        if grid.ndim == 4:
            return F.grid_sample(maps.to(kind), grid, mode="bilinear", align_corners=False)
        return F.grid_sample(maps.to(kind), grid[:, :, None], mode="bilinear", align_corners=False)[..., 0]
