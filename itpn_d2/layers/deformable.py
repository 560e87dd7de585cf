"""Multi-scale deformable attention (Deformable DETR, ICLR'21) without a compiled operator.

The PyTorch form runs everywhere, in any floating-point type; :mod:`.deformable_triton` does the same in one
kernel each way, on CUDA. Levels are given as Python integers, so nothing waits for the device.
"""

import logging
import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .sampling import sample_points

logger = logging.getLogger(__name__)
Form = Literal["auto", "torch", "triton"]
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
            left edge of the first cell, 1 the right edge of the last. What is outside counts as zero.
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
    x, y = places[..., 0] * w - 0.5, places[..., 1] * h - 0.5
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


def grid_levels(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """:func:`sample_levels` by ``grid_sample``, which every format and compiler knows: an ``embedding_bag``
    becomes a loop in ONNX. Samples of a level are stored. Arguments and result are the same."""
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
            f"shapes {tuple(shapes)} have {cells} cells in {len(shapes)} levels; value has "
            f"{value.shape[1]} cells, locations have {locations.shape[3]} levels"
        )


@cache
def _triton() -> bool:
    """Whether the Triton form works here; says once why it does not."""
    try:
        from . import deformable_triton

        deformable_triton.try_out()
    except Exception as error:  # no Triton, no C compiler, a GPU it does not know: whatever it is, it is said
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning("deformable attention in PyTorch, not in Triton, which fails here (%s)", reason)
        return False
    return True


def deformable_samples(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, form: Form = "auto"
) -> Tensor:
    """:func:`sample_levels` in the given form; arguments and result are the same.

    Args:
        form: ``torch``; ``triton``; or ``auto``: Triton for CUDA tensors where it works, PyTorch elsewhere
            and while a graph is compiled, exported or traced, where it is :func:`grid_levels`.
    """
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if form == "auto":
        form = "triton" if value.is_cuda and shapes and not recorded and _triton() else "torch"
    if form == "triton":
        from .deformable_triton import sample_levels_triton

        return sample_levels_triton(value, shapes, locations, weights)
    sample = grid_levels if recorded else sample_levels
    return sample(value, shapes, locations, weights)


class DeformableAttention(nn.Module):
    """Every query attends to a few points of each level, which it chooses itself around its reference.

    Args:
        dim: channels of queries, values and result.
        levels, points: number of levels, and of points on each, for each head.
        form: see :func:`deformable_samples`; may be changed at any time.
    """

    def __init__(
        self, dim: int = 256, num_heads: int = 8, levels: int = 4, points: int = 4, form: Form = "auto"
    ):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_heads}")
        if form not in get_args(Form):
            raise ValueError(f"deformable attention in form {form!r}: choose {', '.join(get_args(Form))}")
        self.num_heads, self.levels, self.points, self.form = num_heads, levels, points, form
        self.offsets = nn.Linear(dim, num_heads * levels * points * 2)
        self.weights = nn.Linear(dim, num_heads * levels * points)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As in the paper: heads look in directions all around, point k at k steps' distance, all alike."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        around = torch.stack((angles.cos(), angles.sin()), -1)
        around = around / around.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1)[:, None]
        offsets = (around[:, None, None] * steps).expand(-1, self.levels, -1, -1)
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for linear in (self.value, self.proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        queries: Tensor,
        reference: Tensor,
        source: Tensor,
        shapes: Shapes,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            queries: ``(B, Q, C)``, with their positions.
            reference: ``(B, Q, L, 4)`` float32, boxes (x, y, w, h) in fractions of each level. Offsets count
                in ``points``-ths of half the box: at first the farthest points lie on its border.
            source: ``(B, S, C)``, the cells of all levels.
            shapes: (h, w) of the levels.
            padding: ``(B, S)``, True where a cell is no image; it counts as zero.

        Returns:
            ``(B, Q, C)``.
        """
        value = self.value(source)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0)
        value = value.unflatten(-1, (self.num_heads, -1))
        offsets = self.offsets(queries).unflatten(-1, (self.num_heads, self.levels, self.points, 2)).float()
        weights = self.weights(queries).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, (self.levels, self.points))
        centre, size = reference[:, :, None, :, None].split(2, -1)
        locations = centre + offsets * (size * (0.5 / self.points))
        return self.proj(deformable_samples(value, shapes, locations, weights, self.form))


def set_form(model: nn.Module, form: Form) -> None:
    """Choose the form of every deformable attention in a model."""
    if form not in get_args(Form):
        raise ValueError(f"deformable attention in form {form!r}: choose {', '.join(get_args(Form))}")
    for module in model.modules():
        if isinstance(module, DeformableAttention):
            module.form = form
