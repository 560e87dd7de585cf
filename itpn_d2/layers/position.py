"""Learned position embeddings at any grid, and which tokens of a padded batch are real."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ResampleRule = Literal["size", "scale", "scale_always"]


# since torch 2.7; before, an exported graph is not for the table's own size
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


def resample_grid(table: Tensor, grid: tuple[int, int], rule: ResampleRule = "size") -> Tensor:
    """Bicubic resampling of a position table ``(1, h, w, C) -> (1, *grid, C)``, computed in float32.

    Args:
        rule: ``size``: to exactly that grid (the Fast-iTPN fine-tuning loader). ``scale``: with the factor
            (n + 0.1) / m of iTPN v1, whose samples lie a little off the grid's. ``scale_always``: that also
            where the grid is the table's own, as v1 does while patches are dropped.
    """
    # a graph for any size must not ask whether it is the table's; bicubic to that size is the identity
    any_size = rule == "size" and _is_exporting()
    if not any_size and rule != "scale_always" and tuple(table.shape[1:3]) == tuple(grid):
        return table
    maps = table.float().permute(0, 3, 1, 2)
    if rule == "size":
        maps = F.interpolate(maps, size=grid, mode="bicubic", align_corners=False)
    else:
        factors = [(n + 0.1) / m for n, m in zip(grid, table.shape[1:3], strict=True)]
        maps = F.interpolate(maps, scale_factor=factors, mode="bicubic", align_corners=False)
    return maps.permute(0, 2, 3, 1).to(table.dtype)


class PositionCache:
    """Resampled tables by grid, for inference only.

    An entry is valid while the parameter it came from is unchanged (same storage, same version), so that
    loading a checkpoint, an optimizer step or a move to another device drops it.
    """

    def __init__(self, rule: ResampleRule = "size", capacity: int = 64):
        self.rule: ResampleRule = rule
        self.capacity = capacity
        self._key: tuple | None = None
        self._tables: dict[tuple[int, int], Tensor] = {}

    def __call__(self, table: nn.Parameter, grid: tuple[int, int]) -> Tensor:
        needs_gradient = torch.is_grad_enabled() and table.requires_grad
        if needs_gradient or torch.compiler.is_compiling() or torch.is_inference(table):
            return resample_grid(table, grid, self.rule)
        key = (table.data_ptr(), table._version, table.device, table.dtype)
        if key != self._key or len(self._tables) >= self.capacity:
            self._key, self._tables = key, {}
        if grid not in self._tables:
            # a normal tensor also under inference_mode, so that a later no_grad forward may use it
            with torch.inference_mode(False), torch.no_grad():
                self._tables[grid] = resample_grid(table.detach(), grid, self.rule)
        return self._tables[grid]

    def __deepcopy__(self, memo: dict) -> "PositionCache":
        return PositionCache(self.rule, self.capacity)

    def __getstate__(self) -> dict:
        return {"rule": self.rule, "capacity": self.capacity, "_key": None, "_tables": {}}


def content_sizes(images: Tensor) -> list[tuple[int, int]]:
    """Height and width of every image of a zero-padded batch ``(B, C, H, W)``, in pixels.

    Detectron2 normalises, then pads with exact zeros at the right and the bottom, and hands a backbone the
    tensor only. The trailing rows and columns that are zero in every channel are that padding (one device
    synchronisation).
    """
    filled = (images != 0).any(1)
    height, width = images.shape[-2:]
    ends = []
    for along, length in ((2, height), (1, width)):
        steps = torch.arange(1, length + 1, device=images.device)
        ends.append((filled.any(along) * steps).amax(1))
    return [(h or height, w or width) for h, w in torch.stack(ends, 1).tolist()]


def token_mask(grids: list[tuple[int, int]], grid: tuple[int, int], device: torch.device) -> Tensor:
    """``(B, H, W)`` bool, True on the tokens that belong to an image of ``grids`` (rows, columns of
    tokens). Made without a tensor of ``grids``, which the device would be waited for to get."""
    rows, columns = torch.arange(grid[0], device=device)[:, None], torch.arange(grid[1], device=device)
    return torch.stack([(rows < height) & (columns < width) for height, width in grids])
