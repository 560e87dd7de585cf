"""Fixed sine-cosine position tables."""

import torch
from torch import Tensor


def sincos_2d(
    dim: int,
    grid: tuple[int, ...],
    num_prefix: int = 0,
    native_grid: tuple[int, ...] | None = None,
) -> Tensor:
    """Table ``(1, num_prefix + rows * columns, dim)`` of MAE: sines and cosines of the column in the first
    half of the channels, of the row in the second; rows for prefix tokens are zero.

    Args:
        grid: rows and columns.
        native_grid: the grid whose coordinates are used; another ``grid`` is then sampled at its cells'
            centres between them, the values that resampling the table approximates.

    Raises:
        ValueError: ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"a 2-D sine-cosine table needs a width that is a multiple of 4, not {dim}")
    rates = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))

    def along(axis: int) -> Tensor:
        scale = 1.0 if native_grid is None else native_grid[axis] / grid[axis]
        places = (torch.arange(grid[axis], dtype=torch.float64) + 0.5) * scale - 0.5
        angles = places[:, None] * rates
        return torch.cat((angles.sin(), angles.cos()), 1)

    rows = along(0)[:, None].expand(-1, grid[1], -1)
    columns = along(1)[None].expand(grid[0], -1, -1)
    table = torch.cat((columns, rows), 2).flatten(0, 1)
    return torch.cat((table.new_zeros(num_prefix, dim), table))[None].float()
