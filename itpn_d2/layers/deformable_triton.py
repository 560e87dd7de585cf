"""Multi-scale deformable attention in Triton: one kernel forward, one backward, no intermediate samples.

A program handles a block of queries of one head. Gradients of values are added up atomically in float32, so
that their last bits depend on the order, as with PyTorch's own ``grid_sample`` on CUDA. With
``TRITON_INTERPRET=1`` in the environment the kernels run on the CPU, which is for tests.
"""

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .deformable_torch import Shapes, check_levels

# How many numbers, queries x channels, a program's block has in each kernel. With more, registers spill to
# memory: backward on sm_75 and sm_80 with 2048, forward on all GPUs from sm_75 to sm_100 with 8192.
_FORWARD_NUMBERS, _BACKWARD_NUMBERS = 2048, 1024


@triton.jit
def _corner(x0, y0, h, w, inside):
    """Whether a cell lies in its level, and its number there."""
    ok = inside & (x0 >= 0) & (x0 < w) & (y0 >= 0) & (y0 < h)
    return ok, y0 * w + x0


@triton.jit
def _cells(values, number, stride, ok, channels, some):
    """Values ``(block, channels)`` of cells in float32, zeros where there is none."""
    where = number[:, None].to(tl.int64) * stride + channels[None, :]
    return tl.load(values + where, mask=ok[:, None] & some[None, :], other=0.0).to(tl.float32)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    value, levels, locations, weights, out,
    cells, queries, heads,
    DIM: tl.constexpr, WIDTH: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    batch, head = tl.program_id(1).to(tl.int64), tl.program_id(2)
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = query < queries
    channels = tl.arange(0, WIDTH)
    some = channels < DIM
    row = (batch * queries + query) * heads + head
    values = value + (batch * cells * heads + head) * DIM
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for level in range(LEVELS):
        h = tl.load(levels + level * 3)
        w = tl.load(levels + level * 3 + 1)
        first = values + tl.load(levels + level * 3 + 2).to(tl.int64) * heads * DIM
        for point in range(POINTS):
            place = (row * LEVELS + level) * POINTS + point
            x = tl.load(locations + place * 2, mask=inside, other=-1.0).to(tl.float32) * w - 0.5
            y = tl.load(locations + place * 2 + 1, mask=inside, other=-1.0).to(tl.float32) * h - 0.5
            share = tl.load(weights + place, mask=inside, other=0.0).to(tl.float32)
            # far outside, an integer could not hold the cell's number; nan compares as false
            x = tl.where(x > -2.0, tl.minimum(x, w + 1.0), -2.0)
            y = tl.where(y > -2.0, tl.minimum(y, h + 1.0), -2.0)
            left, top = tl.floor(x), tl.floor(y)
            fx, fy = x - left, y - top
            x0, y0 = left.to(tl.int32), top.to(tl.int32)
            for corner in tl.static_range(4):
                dx, dy = corner % 2, corner // 2
                ok, number = _corner(x0 + dx, y0 + dy, h, w, inside)
                part = (fx if dx else 1 - fx) * (fy if dy else 1 - fy) * share
                total += part[:, None] * _cells(first, number, heads * DIM, ok, channels, some)
    target = out + row[:, None] * DIM + channels[None, :]
    tl.store(target, total.to(out.dtype.element_ty), mask=inside[:, None] & some[None, :])


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    value, levels, locations, weights, grad_out, grad_value, grad_locations, grad_weights,
    cells, queries, heads,
    DIM: tl.constexpr, WIDTH: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    batch, head = tl.program_id(1).to(tl.int64), tl.program_id(2)
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = query < queries
    channels = tl.arange(0, WIDTH)
    some = channels < DIM
    row = (batch * queries + query) * heads + head
    base = (batch * cells * heads + head) * DIM
    grad = tl.load(
        grad_out + row[:, None] * DIM + channels[None, :], mask=inside[:, None] & some[None, :], other=0.0
    ).to(tl.float32)
    for level in range(LEVELS):
        h = tl.load(levels + level * 3)
        w = tl.load(levels + level * 3 + 1)
        start = base + tl.load(levels + level * 3 + 2).to(tl.int64) * heads * DIM
        for point in range(POINTS):
            place = (row * LEVELS + level) * POINTS + point
            x = tl.load(locations + place * 2, mask=inside, other=-1.0).to(tl.float32) * w - 0.5
            y = tl.load(locations + place * 2 + 1, mask=inside, other=-1.0).to(tl.float32) * h - 0.5
            share = tl.load(weights + place, mask=inside, other=0.0).to(tl.float32)
            x = tl.where(x > -2.0, tl.minimum(x, w + 1.0), -2.0)
            y = tl.where(y > -2.0, tl.minimum(y, h + 1.0), -2.0)
            left, top = tl.floor(x), tl.floor(y)
            fx, fy = x - left, y - top
            x0, y0 = left.to(tl.int32), top.to(tl.int32)
            by_share = tl.zeros((BLOCK,), tl.float32)
            by_x = tl.zeros((BLOCK,), tl.float32)
            by_y = tl.zeros((BLOCK,), tl.float32)
            for corner in tl.static_range(4):
                dx, dy = corner % 2, corner // 2
                ok, number = _corner(x0 + dx, y0 + dy, h, w, inside)
                px, py = (fx if dx else 1 - fx), (fy if dy else 1 - fy)
                along = tl.sum(grad * _cells(value + start, number, heads * DIM, ok, channels, some), 1)
                by_share += px * py * along
                by_x += (py if dx else -py) * along
                by_y += (px if dy else -px) * along
                where = start + number[:, None].to(tl.int64) * heads * DIM + channels[None, :]
                part = (px * py * share)[:, None] * grad
                tl.atomic_add(grad_value + where, part, mask=ok[:, None] & some[None, :], sem="relaxed")
            tl.store(grad_weights + place, by_share, mask=inside)
            tl.store(grad_locations + place * 2, by_x * share * w, mask=inside)
            tl.store(grad_locations + place * 2 + 1, by_y * share * h, mask=inside)


def _constants(dim: int, levels: int, points: int, numbers: int) -> dict[str, int]:
    """What is compiled in; a program has at most ``numbers`` numbers a block."""
    width = triton.next_power_of_2(dim)
    block = max(1, min(64, numbers // width))
    return {"DIM": dim, "WIDTH": width, "LEVELS": levels, "POINTS": points, "BLOCK": block}


@lru_cache(maxsize=256)
def _levels(shapes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """``(L, 3)`` int32: h, w and first cell of each level; copied to the device once for each size of
    image."""
    rows, start = [], 0
    for h, w in shapes:
        rows.append((h, w, start))
        start += h * w
    return torch.tensor(rows, dtype=torch.int32).to(device)


class _Samples(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        value, locations, weights = value.contiguous(), locations.contiguous(), weights.contiguous()
        ctx.shapes = tuple((int(h), int(w)) for h, w in shapes)
        levels = _levels(ctx.shapes, value.device)
        b, _, heads, dim = value.shape
        out = value.new_empty(b, locations.shape[1], heads * dim)
        grid, sizes, constants = _launch(value, locations, _FORWARD_NUMBERS)
        if out.numel():
            _forward[grid](value, levels, locations, weights, out, *sizes, **constants)
        ctx.save_for_backward(value, locations, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        value, locations, weights = ctx.saved_tensors
        levels = _levels(ctx.shapes, value.device)
        grad_value = torch.zeros_like(value, dtype=torch.float32)
        grad_locations = torch.empty_like(locations, dtype=torch.float32)
        grad_weights = torch.empty_like(weights, dtype=torch.float32)
        grid, sizes, constants = _launch(value, locations, _BACKWARD_NUMBERS)
        if grad_out.numel():
            _backward[grid](
                value, levels, locations, weights, grad_out.contiguous(),
                grad_value, grad_locations, grad_weights, *sizes, **constants,
            )  # fmt: skip
        return (
            grad_value.to(value.dtype),
            None,
            grad_locations.to(locations.dtype),
            grad_weights.to(weights.dtype),
        )


def _launch(
    value: Tensor, locations: Tensor, numbers: int
) -> tuple[tuple[int, int, int], tuple[int, int, int], dict[str, int]]:
    """Grid of programs, sizes, and what is compiled in; ``numbers`` as of :func:`_constants`."""
    b, cells, heads, dim = value.shape
    _, queries, _, levels, points, _ = locations.shape
    constants = _constants(dim, levels, points, numbers)
    return (triton.cdiv(queries, constants["BLOCK"]), b, heads), (cells, queries, heads), constants


def sample_levels_triton(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """As :func:`.deformable_torch.sample_levels`, computed in float32 whatever the types.

    Raises:
        ValueError: as there, or there is no level.
    """
    check_levels(value, shapes, locations)
    if not shapes:
        raise ValueError("deformable attention in Triton needs at least one level")
    with torch.autocast(value.device.type, enabled=False), torch.cuda.device_of(value):
        return _Samples.apply(value, shapes, locations, weights)


@torch.inference_mode(False)
@torch.enable_grad()
def try_out(device: str = "cuda") -> None:
    """Run both kernels once, so that what can't work fails here; also where no gradients are recorded, since
    a model is often evaluated first.

    Raises:
        RuntimeError: a result is wrong. Whatever Triton raises where it does not work.
    """
    value = torch.ones(1, 1, 1, 16, device=device, requires_grad=True)
    locations = torch.full((1, 1, 1, 1, 1, 2), 0.5, device=device)
    out = sample_levels_triton(value, [(1, 1)], locations, torch.ones(1, 1, 1, 1, 1, device=device))
    (gradient,) = torch.autograd.grad(out.sum(), value)
    if not (torch.equal(out.flatten(), value.detach().flatten()) and torch.equal(gradient, value.detach())):
        raise RuntimeError("the kernel's result is wrong")
