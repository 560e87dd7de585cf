"""Multi-scale deformable attention's samples in PyTorch: two forms of one sum, for any device and type."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .sampling import sample_points

Shapes = Sequence[tuple[int, int]]


def sample_levels(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples: the PyTorch form.

    All that a query gets of a level is one weighted sum of cells, four for each point: an ``embedding_bag``,
    so that samples are never side by side in memory. Levels are added up one after another. It is computed in
    float32 at least, since bfloat16 can't tell two neighbouring cells of a wide map apart.

    Args:
        value: ``(B, S, heads, D)``, the cells of all levels one after another, rows first; S is the sum of
            h * w.
        shapes: (h, w) of each level; none at all gives zeros.
        locations: ``(B, Q, heads, L, P, 2)``, (x, y) in fractions of the level's width and height: 0 is the
            left edge of the first cell, 1 the right edge of the last. What is outside counts as zero, and so
            does a location that is infinite or no number; such a location gets no gradient.
        weights: ``(B, Q, heads, L, P)``.

    Returns:
        ``(B, Q, heads * D)`` in the type of ``value``.

    Raises:
        ValueError: the shapes do not fit ``value`` or ``locations``.
    """
    check_levels(value, shapes, locations)
    b, _, heads, dim = value.shape
    queries = locations.shape[1]
    kind = torch.promote_types(value.dtype, torch.float32)
    total = value.new_zeros(b * heads * queries, dim, dtype=kind)
    images = torch.arange(b * heads, dtype=torch.int32, device=value.device).view(b, heads, 1, 1)
    start = 0
    with torch.autocast(value.device.type, enabled=False):
        for level, (h, w) in enumerate(shapes):
            cells = value[:, start : start + h * w].transpose(1, 2).reshape(-1, dim).to(kind)
            start += h * w
            places = locations[:, :, :, level].transpose(1, 2).to(kind)
            shares = weights[:, :, :, level].transpose(1, 2).to(kind)
            numbers, shares = _corners(places, shares, h, w)
            numbers = (numbers + images * (h * w)).flatten(0, 2)
            sums = F.embedding_bag(numbers, cells, per_sample_weights=shares.flatten(0, 2), mode="sum")
            total = total + sums
    return total.to(value.dtype).view(b, heads, queries, dim).transpose(1, 2).flatten(2)


def _corners(places: Tensor, weights: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
    """The cells around points ``(..., P, 2)`` of a level, and what they count with the points' weights.

    Returns:
        numbers ``(..., P * 4)`` int32, and their shares, zero for cells outside.
    """
    x, y = _near(places[..., 0] * w - 0.5, w), _near(places[..., 1] * h - 0.5, h)
    left, top = x.detach().floor(), y.detach().floor()
    right_share, lower_share = x - left, y - top
    numbers, shares = [], []
    for row, row_share in ((top, 1 - lower_share), (top + 1, lower_share)):
        row_share = row_share * weights
        for column, share in ((left, 1 - right_share), (left + 1, right_share)):
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            numbers.append(torch.where(inside, row * w + column, 0).int())
            shares.append(torch.where(inside, row_share * share, 0))
    return torch.stack(numbers, -1).flatten(-2), torch.stack(shares, -1).flatten(-2)


def _near(places: Tensor, length: int) -> Tensor:
    """Places in cells. One outside stands for all that touch no cell: infinity less infinity would be no
    number, nor would its gradient."""
    return torch.where((places >= -1) & (places < length), places, -2.0)


def grid_levels(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """:func:`sample_levels` by ``grid_sample``, which every format and compiler knows: an ``embedding_bag``
    becomes a loop in ONNX. Samples of a level are stored. Arguments and result are the same.

    Raises:
        ValueError: as there.
    """
    check_levels(value, shapes, locations)
    b, _, heads, dim = value.shape
    kind = torch.promote_types(value.dtype, torch.float32)
    cells = value.permute(0, 2, 3, 1).flatten(0, 1).to(kind)  # (B * heads, D, S)
    places = locations.to(kind).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (B * heads, L, Q, P, 2)
    shares = weights.to(kind).permute(0, 2, 3, 1, 4).flatten(0, 1)
    total = cells.new_zeros(b * heads, dim, locations.shape[1])
    start = 0
    with torch.autocast(value.device.type, enabled=False):
        for level, (h, w) in enumerate(shapes):
            part = cells[..., start : start + h * w].unflatten(-1, (h, w))
            start += h * w
            samples = sample_points(part, places[:, level])
            total = total + (samples * shares[:, None, level]).sum(-1)
    return total.to(value.dtype).unflatten(0, (b, heads)).permute(0, 3, 1, 2).flatten(2)


def check_levels(value: Tensor, shapes: Shapes, locations: Tensor) -> None:
    """Raises ValueError: ``value`` or ``locations`` has not the levels that ``shapes`` says."""
    cells = sum(h * w for h, w in shapes)
    if (value.shape[1] != cells and shapes) or locations.shape[3] != len(shapes):
        raise ValueError(
            f"shapes {tuple(shapes)} have {cells} cells in {len(shapes)} levels, but value has "
            f"{value.shape[1]} cells and locations have {locations.shape[3]} levels"
        )
