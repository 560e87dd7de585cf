"""Where the cells of several maps lie in images of several sizes."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...layers import upload
from ...layers.deformable import Shapes

Size = tuple[int, int]


@dataclass(frozen=True)
class Geometry:
    """Cells of all levels, one level after another, rows first: S in all.

    Places are fractions of an image without its padding, so that nothing of an image depends on the batch it
    is in; :attr:`scale` takes them to fractions of a level, padding included. It is exact also where a map's
    cells do not cover the last pixels (a pool that drops an odd row), or cover more. The public DINO counts
    cells instead (:func:`count_cells`): an image has a whole number of them on every level.

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

    def ends(self) -> Tensor:
        """``(B, S, 2)`` float32: where the cells end, (x, y) of their right lower corners."""
        halves = 0.5 * self.cells / self.scale[..., :2]
        return self.centres + halves[:, self.level_numbers()]

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


def count_cells(shapes: Shapes, image_sizes: Sequence[Size], padded: Size, device: torch.device) -> Geometry:
    """The geometry of maps as the public DINO has it: an image's cells are those whose nearest pixel of the
    padded batch lies in it.

    Args:
        shapes: (h, w) of each level.
        image_sizes: (height, width) of each image in pixels, without padding.
        padded: of the batch.
    """
    counts = [
        [(_nearest_within(w, padded[1], width), _nearest_within(h, padded[0], height)) for h, w in shapes]
        for height, width in image_sizes
    ]
    held = upload(torch.tensor(counts, dtype=torch.float32), device)  # (B, L, 2)
    numbers = []
    for h, w in shapes:
        y, x = torch.meshgrid(
            *(torch.arange(n, device=device, dtype=torch.float32) for n in (h, w)), indexing="ij"
        )
        numbers.append(torch.stack((x, y), -1).flatten(0, 1))
    sizes = torch.cat([held[:, k, None].expand(-1, len(n), -1) for k, n in enumerate(numbers)], 1)
    cells = torch.cat(numbers)
    full = _floats([(w, h) for h, w in shapes], device)
    padding = any(count != [(w, h) for h, w in shapes] for count in counts)
    return Geometry(
        shapes=tuple(shapes),
        centres=(cells + 0.5) / sizes,
        scale=(held / full).repeat(1, 1, 2),
        cells=1 / full,
        padding=(cells >= sizes).any(-1) if padding else None,
    )


def _nearest_within(cells: int, pixels: int, inside: int) -> int:
    """Of ``cells`` over ``pixels``, how many have their nearest pixel among the first ``inside``: the rule of
    ``interpolate(mode="nearest")``, in float32 like there."""
    step = _single(pixels / cells)
    return sum(min(int(_single(k * step)), pixels - 1) < inside for k in range(cells))


def _single(number: float) -> float:
    return struct.unpack("f", struct.pack("f", number))[0]


def _floats(rows: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    return upload(torch.tensor(rows, dtype=torch.float32), device)


def sine_embedding(places: Tensor, dim: int, temperature: float = 20.0, interleaved: bool = False) -> Tensor:
    """Numbers ``(..., k)`` around 0..1 to ``(..., k * dim)``: sines and cosines of ``dim / 2`` wave lengths,
    from 1 to ``temperature`` (DETR's, with the temperature of DINO).

    Args:
        interleaved: a sine and its cosine stand side by side, as in DETR; else all sines come first.
    """
    steps = torch.arange(dim // 2, device=places.device, dtype=torch.float32) * (2 / dim)
    angles = places[..., None].float() * (2 * math.pi) / temperature**steps
    if interleaved:
        return torch.stack((angles.sin(), angles.cos()), -1).flatten(-3)
    return torch.cat((angles.sin(), angles.cos()), -1).flatten(-2)
