"""Which pixels and tokens of a padded batch are real."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .recording import is_recorded

Grid = tuple[int, int]
# (height, width) of each image: integers; a tensor (B, 2) of them; or, from Detectron2 while it is traced,
# one tensor each. Nothing at all: no image is padded.
ImageSizes = Sequence[Grid] | Sequence[Tensor] | Tensor


def content_sizes(images: Tensor) -> list[Grid]:
    """Height and width of every image of a zero-padded batch ``(B, C, H, W)``, in pixels, for callers that
    know the tensor only.

    Detectron2 normalises, then pads with exact zeros at the right and the bottom. The trailing rows and
    columns that are zero in every channel are taken for that padding (one device synchronisation), also where
    they are a border of the image whose colour happens to be the mean.
    """
    filled = (images != 0).any(1)
    height, width = images.shape[-2:]
    ends = []
    for along, length in ((2, height), (1, width)):
        steps = torch.arange(1, length + 1, device=images.device)
        ends.append((filled.any(along) * steps).amax(1))
    return [(h or height, w or width) for h, w in torch.stack(ends, 1).tolist()]


def token_grids(
    sizes: ImageSizes, stride: int, grid: Grid, batch: int, device: torch.device
) -> Tensor | None:
    """Rows and columns of tokens of each image, ``(B, 2)`` int64 on ``device``, or None where every image is
    seen to fill its grid.

    A tensor on the CPU is looked at like integers are. One on another device is not, since that would wait
    for it, nor is any in a graph that is recorded, which serves all sizes.

    Args:
        sizes: (height, width) of the images, in pixels.
        stride: pixels of a token, which counts as real if one of them is.
        grid: rows and columns of tokens of the batch.

    Raises:
        ValueError: sizes of another number of images.
    """
    count = sizes.shape[0] if isinstance(sizes, Tensor) else len(sizes)
    if count == 0:
        return None
    if not torch.jit.is_tracing() and count != batch:
        raise ValueError(f"image_sizes of {count} images for a batch of {batch}: give one for each")
    known: Sequence[Any] | None
    if isinstance(sizes, Tensor):
        table = sizes
        known = None if is_recorded(sizes) or sizes.device.type != "cpu" else sizes.tolist()
    elif isinstance(sizes[0], Tensor):
        table, known = torch.stack([torch.as_tensor(size) for size in sizes]), None
    else:
        table, known = None, sizes
    if known is not None and all((-(-h // stride), -(-w // stride)) == grid for h, w in known):
        return None
    if table is None:
        table = torch.tensor(sizes)
    # pageable memory is copied before the call returns: nothing waits, and nothing may change it meanwhile
    return (table.to(device, non_blocking=True) + (stride - 1)) // stride


def token_mask(grids: Tensor, grid: Grid) -> Tensor:
    """``(B, H, W)`` bool, True on the tokens that belong to an image of ``grids`` ``(B, 2)`` (rows, columns
    of tokens)."""
    rows = torch.arange(grid[0], device=grids.device) < grids[:, :1]
    columns = torch.arange(grid[1], device=grids.device) < grids[:, 1:]
    return rows[:, :, None] & columns[:, None, :]
