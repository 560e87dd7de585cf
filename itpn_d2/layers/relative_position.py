"""Relative position biases of iTPN v1, at any grid of tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .position import resample_grid

Grid = tuple[int, int]


def _offsets(length: int, device: torch.device) -> Tensor:
    """``(length, length)`` index of query minus key into a table of ``2 * length - 1`` offsets."""
    place = torch.arange(length, device=device)
    return place[:, None] - place[None, :] + length - 1


class TableBias(nn.Module):
    """One learned value per (row offset, column offset, head), starting at zero.

    The table is a grid ``(1, 2h-1, 2w-1, heads)``, so that other grids get a bicubic resampling of it.
    """

    def __init__(self, grid: Grid, num_heads: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 2 * grid[0] - 1, 2 * grid[1] - 1, num_heads))

    def forward(self, q: Tensor, grid: Grid) -> Tensor:
        """Bias ``(1, heads, N, N)`` in the type of ``q`` ``(B, heads, N, head_dim)``; N = rows * columns."""
        h, w = grid
        table = resample_grid(self.table, (2 * h - 1, 2 * w - 1))[0]
        rows, columns = _offsets(h, q.device), _offsets(w, q.device)
        bias = table[rows[:, None, :, None], columns[None, :, None, :]]  # (h, w, h, w, heads)
        return bias.reshape(h * w, h * w, -1).permute(2, 0, 1)[None].to(q.dtype)

    def no_weight_decay(self) -> set[str]:
        return {"table"}


class DecomposedBias(nn.Module):
    """The query times a learned vector of its row offset, plus the same for columns.

    The tables are ``(1, 2h-1, 1, head_dim)`` and ``(1, 1, 2w-1, head_dim)``; other grids get a linear
    resampling. As in the reference the query is not scaled.
    """

    def __init__(self, grid: Grid, head_dim: int):
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(1, 2 * grid[0] - 1, 1, head_dim))
        self.columns = nn.Parameter(torch.zeros(1, 1, 2 * grid[1] - 1, head_dim))

    def forward(self, q: Tensor, grid: Grid) -> Tensor:
        """Bias ``(B, heads, N, N)`` in the type of ``q`` ``(B, heads, N, head_dim)``; N = rows * columns."""
        b, heads, n, d = q.shape
        h, w = grid
        rows = _resample_line(self.rows.flatten(0, 2), 2 * h - 1)[_offsets(h, q.device)].to(q.dtype)
        columns = _resample_line(self.columns.flatten(0, 2), 2 * w - 1)[_offsets(w, q.device)].to(q.dtype)
        maps = q.reshape(b, heads, h, w, d)
        by_row = torch.einsum("bnhwd,hkd->bnhwk", maps, rows)[..., :, None]
        by_column = torch.einsum("bnhwd,wkd->bnhwk", maps, columns)[..., None, :]
        return (by_row + by_column).reshape(b, heads, n, n)

    def no_weight_decay(self) -> set[str]:
        return {"rows", "columns"}


def _resample_line(table: Tensor, length: int) -> Tensor:
    """``(m, d) -> (length, d)``, linear."""
    if len(table) == length:
        return table
    return F.interpolate(table.float().T[None], size=length, mode="linear")[0].T.to(table.dtype)
