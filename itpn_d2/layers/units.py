"""The one place that moves cells between space and channels.

Every feature map of this project is channel-last, ``(..., h, w, C)``. With one leading dimension it is an
image map ``(B, H, W, C)``; with two it is the unit layout ``(B, N, h, w, C)``, where unit ``n`` is one 16x16
patch. Before stage 3, and in the whole pyramid, no layer mixes two units, so the same layers serve both
layouts.
"""

import torch
from torch import Tensor


def image_to_cells(image: Tensor, size: int) -> Tensor:
    """Cut an image into cells: ``(B, C, H, W) -> (B, H/size, W/size, C*size*size)``, values in (channel, row,
    column) order, so that a flattened convolution kernel is the matching linear weight."""
    b, c, h, w = image.shape
    cells = image.reshape(b, c, h // size, size, w // size, size)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(b, h // size, w // size, c * size * size)


def tiles(image: Tensor, rows: int, columns: int) -> Tensor:
    """Cut the two last dimensions into tiles: ``(..., H, W) -> (..., H/rows, W/columns, rows, columns)``;
    what is left over at the right and at the bottom is dropped, as pooling does. A view."""
    return image.unfold(-2, rows, rows).unfold(-2, columns, columns)


def merge_cells(x: Tensor) -> Tensor:
    """Join 2x2 neighbours: ``(..., 2h, 2w, C) -> (..., h, w, 4C)`` in (row, column, channel) order."""
    if not torch.jit.is_scripting() and torch.jit.is_tracing():
        *lead, h, w, c = x.shape
        x = x.reshape(*lead, h // 2, 2, w // 2, 2, c)  # of unflatten, tracing takes the sizes for constants
    else:
        x = x.unflatten(-2, (-1, 2)).unflatten(-4, (-1, 2))
    return x.transpose(-4, -3).flatten(-3)


def split_cells(x: Tensor) -> Tensor:
    """Inverse of :func:`merge_cells`: ``(..., h, w, 4C) -> (..., 2h, 2w, C)``."""
    if not torch.jit.is_scripting() and torch.jit.is_tracing():
        *lead, h, w, c4 = x.shape
        x = x.reshape(*lead, h, w, 2, 2, c4 // 4).transpose(-4, -3)  # as above
    else:
        x = x.unflatten(-1, (2, 2, -1)).transpose(-4, -3)
    return x.flatten(-5, -4).flatten(-3, -2)


def map_to_units(x: Tensor, unit: int) -> Tensor:
    """``(B, H, W, C) -> (B, N, unit, unit, C)``, units in row-major order."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // unit, unit, w // unit, unit, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, (h // unit) * (w // unit), unit, unit, c)


def units_to_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Inverse of :func:`map_to_units`; ``grid`` is (rows, columns) of units."""
    b, _, unit, _, c = x.shape
    x = x.reshape(b, grid[0], grid[1], unit, unit, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, grid[0] * unit, grid[1] * unit, c)


def map_to_tokens(x: Tensor) -> Tensor:
    """``(B, H, W, C) -> (B, H*W, C)``, row-major."""
    return x.flatten(1, 2)


def tokens_to_map(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """``(B, H*W, C) -> (B, H, W, C)``."""
    # not unflatten: tracing would take the sizes for constants
    return x.reshape(x.shape[0], grid[0], grid[1], x.shape[2])


def gather_units(x: Tensor, chosen: Tensor) -> Tensor:
    """Units ``(B, N, ..., C)`` at the indices ``chosen (B, K)``: ``(B, K, ..., C)``."""
    index = chosen.reshape(*chosen.shape, *(1,) * (x.ndim - 2))
    return x.gather(1, index.expand(-1, -1, *x.shape[2:]))
