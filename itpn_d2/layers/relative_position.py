"""Relative position biases of iTPN v1, at any grid of tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .position import cubic_taps, linear_taps, resample_grid

Grid = tuple[int, int]


def _offsets(length: int, device: torch.device) -> Tensor:
    """``(length, length)`` index of query minus key into a table of ``2 * length - 1`` offsets."""
    place = torch.arange(length, device=device)
    return place[:, None] - place[None, :] + length - 1


def _own_places(counts: Tensor, length: int, stored: int) -> Tensor:
    """``(B, 2 * length - 1)``: where among ``stored`` values the offsets of a padded side of ``length``
    tokens lie, for images that have ``counts`` ``(B,)`` of them. What lies outside belongs to padding."""
    offset = torch.arange(1 - length, length, device=counts.device)
    own = 2 * counts[:, None] - 1
    return (offset + counts[:, None] - 0.5) * (stored / own) - 0.5


class TableBias(nn.Module):
    """One learned value per (row offset, column offset, head), starting at zero.

    The table is a grid ``(1, 2h-1, 2w-1, heads)``, so that other grids get a bicubic resampling of it.
    """

    def __init__(self, grid: Grid, num_heads: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 2 * grid[0] - 1, 2 * grid[1] - 1, num_heads))

    def forward(self, q: Tensor, grid: Grid, grids: Tensor | None = None) -> Tensor:
        """Bias ``(1, heads, N, N)`` in the type of ``q`` ``(B, heads, N, head_dim)``; N = rows * columns.

        ``grids`` ``(B, 2)`` has each image's own rows and columns in a padded batch; the bias is then
        ``(B, heads, N, N)``, between an image's tokens as it is for the image alone.
        """
        h, w = grid
        rows, columns = _offsets(h, q.device), _offsets(w, q.device)
        if grids is None:
            table = resample_grid(self.table, (2 * h - 1, 2 * w - 1))
        else:
            table = self._of_each(grids, grid)
        bias = table[:, rows[:, None, :, None], columns[None, :, None, :]]  # (B, h, w, h, w, heads)
        return bias.reshape(table.shape[0], h * w, h * w, -1).permute(0, 3, 1, 2).to(q.dtype)

    def _of_each(self, grids: Tensor, grid: Grid) -> Tensor:
        """The table ``(B, 2h-1, 2w-1, heads)`` of every image, by offset."""
        table = self.table[0].to(torch.promote_types(self.table.dtype, torch.float32))
        rows, columns = (
            cubic_taps(_own_places(grids[:, side], grid[side], stored), stored).to(table.dtype)
            for side, stored in enumerate(table.shape[:2])
        )
        with torch.autocast(table.device.type, enabled=False):
            lines = torch.einsum("brm,mnh->brnh", rows, table)
            return torch.einsum("bsn,brnh->brsh", columns, lines)

    def no_weight_decay(self) -> set[str]:
        """The table: it is not decayed."""
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

    def forward(self, q: Tensor, grid: Grid, grids: Tensor | None = None) -> Tensor:
        """Bias ``(B, heads, N, N)`` in the type of ``q`` ``(B, heads, N, head_dim)``; N = rows * columns;
        ``grids`` as of :meth:`TableBias.forward`."""
        b, heads, n, d = q.shape
        h, w = grid
        tables = self.rows.flatten(0, 2), self.columns.flatten(0, 2)
        rows, columns = (
            _resample_line(table, grid[side], None if grids is None else grids[:, side])[
                :, _offsets(grid[side], q.device)
            ].to(q.dtype)
            for side, table in enumerate(tables)
        )  # (1 or B, h, h, head_dim)
        maps = q.reshape(b, heads, h, w, d)
        by_row = torch.einsum("bnhwd,bhkd->bnhwk", maps, rows.expand(b, -1, -1, -1))[..., :, None]
        by_column = torch.einsum("bnhwd,bwkd->bnhwk", maps, columns.expand(b, -1, -1, -1))[..., None, :]
        return (by_row + by_column).reshape(b, heads, n, n)

    def no_weight_decay(self) -> set[str]:
        """Both tables: they are not decayed."""
        return {"rows", "columns"}


def _resample_line(table: Tensor, length: int, counts: Tensor | None) -> Tensor:
    """``(m, d) -> (1, 2 * length - 1, d)``, linear; or, with the ``counts`` ``(B,)`` of tokens of each image
    in a padded batch, ``(B, 2 * length - 1, d)``."""
    if counts is not None:
        taps = linear_taps(_own_places(counts, length, len(table)), len(table))
        kind = torch.promote_types(table.dtype, torch.float32)
        with torch.autocast(table.device.type, enabled=False):
            return (taps.to(kind) @ table.to(kind)).to(table.dtype)
    if len(table) == 2 * length - 1:
        return table[None]
    line = F.interpolate(table.float().T[None], size=2 * length - 1, mode="linear")
    return line.transpose(1, 2).to(table.dtype)
