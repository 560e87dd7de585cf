"""Learned position embeddings at any grid of tokens, and at a grid of its own for each image of a batch."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .recording import is_recorded

ResampleRule = Literal["size", "scale", "scale_always"]


# since torch 2.7; before, an exported graph is not for the table's own size
_is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", lambda: False)


@torch.fx.wrap  # one node of a graph: it asks for sizes
def resample_grid(table: Tensor, grid: tuple[int, int], rule: str = "size") -> Tensor:
    """Bicubic resampling of a position table ``(1, h, w, C) -> (1, *grid, C)``, computed in float32.

    Args:
        rule: ``size``: to exactly that grid (the Fast-iTPN fine-tuning loader). ``scale``: with the factor
            (n + 0.1) / m of iTPN v1, whose samples lie a little off the grid's. ``scale_always``: that also
            where the grid is the table's own, as v1 does while patches are dropped.
    """
    rows, columns = grid
    # a graph for any size must not ask whether it is the table's; bicubic to that size is the identity
    any_size = False
    if not torch.jit.is_scripting():
        any_size = rule == "size" and (_is_exporting() or torch.jit.is_tracing())
    own = not any_size and table.shape[1] == rows and table.shape[2] == columns
    if own and rule != "scale_always":
        return table
    maps = table.float().permute(0, 3, 1, 2)
    if rule == "size":
        maps = F.interpolate(maps, size=[rows, columns], mode="bicubic", align_corners=False)
    else:
        factors = [(rows + 0.1) / table.shape[1], (columns + 0.1) / table.shape[2]]
        maps = F.interpolate(maps, scale_factor=factors, mode="bicubic", align_corners=False)
    return maps.permute(0, 2, 3, 1).to(table.dtype)


def resample_to_each(
    table: Tensor, grids: Tensor, grid: tuple[int, int], rule: ResampleRule = "size"
) -> Tensor:
    """:func:`resample_grid` for the images of a padded batch: ``(1, h, w, C) -> (B, *grid, C)``, the upper
    left of which is an image's table, and zero the rest.

    Nothing depends on the values of ``grids``, so that one recorded graph serves all sizes.

    Args:
        grids: ``(B, 2)`` rows and columns of each image.
        grid: rows and columns of the batch.
    """
    kind = torch.promote_types(table.dtype, torch.float32)
    stored = tuple(table.shape[1:3])
    lines = []
    for side in (0, 1):
        count, place = grids[:, side, None], torch.arange(grid[side], device=grids.device)
        step = stored[side] / (count.to(kind) if rule == "size" else count + 0.1)
        if rule == "scale":
            own = (grids[:, :1] == stored[0]) & (grids[:, 1:] == stored[1])
            step = torch.where(own, 1.0, step)
        taps = cubic_taps((place + 0.5) * step - 0.5, stored[side])
        lines.append((taps * (place < count)[..., None]).to(kind))
    with torch.autocast(table.device.type, enabled=False):
        rows = torch.einsum("brm,mnc->brnc", lines[0], table[0].to(kind))
        return torch.einsum("bsn,brnc->brsc", lines[1], rows).to(table.dtype)


def cubic_taps(places: Tensor, stored: int) -> Tensor:
    """Weights ``(..., stored)`` of stored values at places between them, ``(...)``: cubic convolution with
    a = -.75 and the border repeated, as PyTorch's bicubic interpolation has it."""
    a = -0.75
    near, far = places - places.floor(), 1 - (places - places.floor())

    def inner(x: Tensor) -> Tensor:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def outer(x: Tensor) -> Tensor:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return _taps(places, [outer(near + 1), inner(near), inner(far), outer(far + 1)], -1, stored)


def linear_taps(places: Tensor, stored: int) -> Tensor:
    """As :func:`cubic_taps`, for linear interpolation.

    ``(...)`` to ``(..., stored)``.
    """
    share = places - places.floor()
    return _taps(places, [1 - share, share], 0, stored)


def _taps(places: Tensor, weights: list[Tensor], first: int, stored: int) -> Tensor:
    offsets = torch.arange(first, first + len(weights), device=places.device)
    cells = (places.floor()[..., None] + offsets).clamp(0, stored - 1)
    hits = cells[..., None] == torch.arange(stored, device=places.device)
    return (hits * torch.stack(weights, -1)[..., None]).sum(-2)


class PositionCache:
    """Resampled tables by grid, for inference only.

    An entry is valid while the parameter it came from is unchanged (same storage, same version), so that
    loading a checkpoint, an optimizer step or a move to another device drops it. Shards that are gathered
    come in the same storage, of the same version, with other values: of those nothing is kept (:meth:`stop`).
    """

    def __init__(self, rule: ResampleRule = "size", capacity: int = 64):
        self.rule: ResampleRule = rule
        self.capacity = capacity
        self._key: tuple | None = None
        self._tables: dict[tuple[int, int], Tensor] = {}

    def stop(self) -> None:
        """Resample each time from now on."""
        self.capacity = 0

    def __call__(self, table: nn.Parameter, grid: tuple[int, int]) -> Tensor:
        """The table ``(1, h, w, C)`` resampled to ``(1, *grid, C)``, from the cache where possible."""
        if is_recorded(table):  # a traced graph, too, would keep the table of its example for all sizes
            return resample_grid(table, grid, self.rule)
        needs_gradient = torch.is_grad_enabled() and table.requires_grad
        if needs_gradient or torch.is_inference(table):
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
