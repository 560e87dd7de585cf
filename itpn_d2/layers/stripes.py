"""Inference on a CPU, some rows of patches at a time (ours)."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .recording import is_recorded


def in_stripes(
    function: Callable[..., Sequence[Tensor]], *maps: Tensor, rows: int, cells: int = 2048
) -> tuple[Tensor, ...]:
    """``function(*maps)``, some rows of patches at a time, so that what it makes on its way stays small: in
    the processor's cache, and below the size of block that an allocator returns to the system.

    Stages 1-2 and the pyramid are such functions, since nothing in them mixes two patches. With gradients, on
    other devices, and in a graph that is recorded, all rows go at once.

    Args:
        function: from channel-last maps to channel-last maps; each of them has a fixed number of rows for a
            row of patches.
        maps: ``(B, k * rows, W, C)``, k and W of any value each; or tokens ``(B, rows, C)``.
        rows: how many rows of patches there are, or tokens.
        cells: at most so many of the largest map at a time, but at least one row of patches.

    Returns:
        maps ``(B, k * rows, W, C)``, contiguous where they were put together.
    """
    if is_recorded(maps[0]) or torch.is_grad_enabled() or maps[0].device.type != "cpu":
        return tuple(function(*maps))
    largest = max(x.shape[:-1].numel() for x in maps)
    step = max(1, cells * rows // max(1, largest))
    if step >= rows:
        return tuple(function(*maps))
    step = math.ceil(rows / math.ceil(rows / step))  # no small rest
    whole: tuple[Tensor, ...] = ()
    for first in range(0, rows, step):
        count = min(step, rows - first)
        parts = function(*(_rows(x, rows, first, count) for x in maps))
        if not whole:
            sizes = [x.shape[1] // count * rows for x in parts]
            whole = tuple(
                x.new_empty(x.shape[0], size, *x.shape[2:]) for x, size in zip(parts, sizes, strict=True)
            )
        for x, part in zip(whole, parts, strict=True):
            _rows(x, rows, first, count).copy_(part)
    return whole


def _rows(x: Tensor, rows: int, first: int, count: int) -> Tensor:
    """The rows of ``count`` rows of patches from ``first``, of a map that has ``rows`` of them."""
    scale = x.shape[1] // rows
    return x.narrow(1, first * scale, count * scale)
