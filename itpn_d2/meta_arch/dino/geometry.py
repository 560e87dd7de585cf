"""Where the cells of several maps lie in images of several sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers.deformable import Shapes


@dataclass(frozen=True)
class Geometry:
    """Cells of all levels, one level after another, rows first: S in all.

    Places are fractions of an image without its padding, so that nothing of an image depends on the batch it
    is in; :attr:`scale` takes them to fractions of a level, padding included. It is exact also where a map's
    cells do not cover the last pixels (a pool that drops an odd row), or cover more.

    Attributes:
        shapes: (h, w) of the levels.
        centres: ``(B, S, 2)`` float32, (x, y) of the cells.
        scale: ``(B, L, 4)`` float32, factors of (x, y, w, h).
        cells: ``(L, 2)`` float32, width and height of a cell in fractions of its level.
        padding: ``(B, S)``, True for cells outside their image; None where there is none.
    """

    shapes: Shapes
    centres: Tensor
    scale: Tensor
    cells: Tensor
    padding: Tensor | None

    def boxes(self, places: Tensor) -> Tensor:
        """Boxes ``(B, Q, 4)`` to ``(B, Q, L, 4)`` in fractions of each level."""
        return places[:, :, None] * self.scale[:, None]

    def around_cells(self, points: int) -> Tensor:
        """``(B, S, L, 4)``: boxes around all cells that reach so many cells far on every level."""
        centres = self.centres[:, :, None] * self.scale[:, None, :, :2]
        return torch.cat((centres, (2 * points * self.cells).expand_as(centres)), -1)

    def level_numbers(self) -> Tensor:
        """``(S,)`` the level of each cell."""
        counts = [h * w for h, w in self.shapes]
        numbers = torch.arange(len(counts), device=self.centres.device)
        return torch.cat([n.expand(count) for n, count in zip(numbers, counts, strict=True)])


def locate(
    shapes: Shapes, strides: Sequence[int], image_sizes: Sequence[tuple[int, int]], device: torch.device
) -> Geometry:
    """The geometry of maps.

    Args:
        shapes, strides: (h, w) of each level, and pixels between its cells.
        image_sizes: (height, width) of each image in pixels, without padding.
    """
    sizes = _floats([(w, h) for h, w in image_sizes], device)
    extents = _floats([(w * s, h * s) for (h, w), s in zip(shapes, strides, strict=True)], device)
    corners = []
    for (h, w), stride in zip(shapes, strides, strict=True):
        rows = torch.arange(h, device=device, dtype=torch.float32) * stride
        columns = torch.arange(w, device=device, dtype=torch.float32) * stride
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        corners.append(torch.stack((x, y), -1).flatten(0, 1))
    half = torch.cat([c.new_full((len(c), 1), s / 2) for c, s in zip(corners, strides, strict=True)])
    pixels = torch.cat(corners)
    padded = any(
        h > math.ceil(height / s) or w > math.ceil(width / s)
        for (h, w), s in zip(shapes, strides, strict=True)
        for height, width in image_sizes
    )
    return Geometry(
        shapes=tuple(shapes),
        centres=(pixels + half) / sizes[:, None],
        scale=(sizes[:, None] / extents).repeat(1, 1, 2),
        cells=1 / _floats([(w, h) for h, w in shapes], device),
        padding=(pixels >= sizes[:, None]).any(-1) if padded else None,
    )


def _floats(rows: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).to(device, non_blocking=True)


def sine_embedding(places: Tensor, dim: int, temperature: float = 20.0) -> Tensor:
    """Numbers ``(..., k)`` around 0..1 to ``(..., k * dim)``: sines and cosines of ``dim / 2`` wave lengths,
    from 1 to ``temperature`` (DETR's, with the temperature of DINO)."""
    steps = torch.arange(dim // 2, device=places.device, dtype=torch.float32) * (2 / dim)
    angles = places[..., None].float() * (2 * math.pi) / temperature**steps
    return torch.cat((angles.sin(), angles.cos()), -1).flatten(-2)
