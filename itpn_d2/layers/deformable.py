"""Multi-scale deformable attention (Deformable DETR, ICLR'21) without a compiled operator.

The samples in PyTorch, :mod:`.deformable_torch`, run everywhere, in any floating-point type;
:mod:`.deformable_triton` does the same in one kernel each way, on CUDA. Levels are given as Python integers,
so nothing waits for the device.
"""

import logging
import math
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .deformable_torch import Shapes, grid_levels, sample_levels
from .recording import is_recorded

logger = logging.getLogger(__name__)
Form = Literal["auto", "torch", "triton"]


@cache
def _triton() -> bool:
    """Whether the Triton form works here; says once why it does not."""
    try:
        from . import deformable_triton

        deformable_triton.try_out()
    except Exception as error:  # no Triton, no C compiler, an unknown GPU: the reason is always logged
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        logger.warning("deformable attention runs in PyTorch, since Triton fails here (%s)", reason)
        return False
    return True


def deformable_samples(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, form: Form = "auto"
) -> Tensor:
    """:func:`.sample_levels` in the given form; arguments and result are the same.

    Args:
        form: ``torch``; ``triton``; or ``auto``: Triton for CUDA tensors where it works, PyTorch elsewhere
            and while a graph is compiled, exported or traced, where it is :func:`.grid_levels`.

    Raises:
        ValueError: as there; or ``triton`` without a level.
    """
    recorded = is_recorded(value)
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

    Raises:
        ValueError: ``dim`` is not divisible by ``num_heads``, or ``form`` is unknown.
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
    """Choose the form of every deformable attention in a model.

    Raises:
        ValueError: ``form`` is unknown.
    """
    if form not in get_args(Form):
        raise ValueError(f"deformable attention in form {form!r}: choose {', '.join(get_args(Form))}")
    for module in model.modules():
        if isinstance(module, DeformableAttention):
            module.form = form
