"""A masking without random numbers, for processes that must mask alike."""

import torch


class Checkerboard:
    """Every second cell of a grid ``(rows, columns)`` is masked, whatever ``ratio`` is given."""

    def __init__(self, ratio=None, block=None):
        self.block = block

    def __call__(self, batch, grid, generator=None, device="cpu"):
        rows, columns = (torch.arange(n, device=device) for n in grid)
        return ((rows[:, None] + columns) % 2 == 0).flatten().expand(batch, -1)
