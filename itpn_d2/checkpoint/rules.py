"""Rules that rename and reshape the tensors of one layout into another's, there and back.

Both sides are name templates that share their groups; a reshaping is a pair of inverse functions. The 4-D
kernels of the official layouts are linear layers here.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import CheckpointError

Reshape = Callable[[Tensor], Tensor]
_GROUPS = {"s": r"[12]", "i": r"\d+", "k": r"\d+", "p": "weight|bias", "f": r"\w+", "r": r".+"}


def same(w: Tensor) -> Tensor:
    """A tensor that is the same in both layouts."""
    return w


def flat(w: Tensor) -> Tensor:
    """Kernel (out, in, h, w) to linear weight over (in, row, column)."""
    return w.flatten(1)


def point_kernel(w: Tensor) -> Tensor:
    """Linear weight (out, in) to kernel (out, in, 1, 1)."""
    return w[:, :, None, None]


def stem_kernel(w: Tensor) -> Tensor:
    """Linear weight (out, in * 16) over (in, row, column) to kernel (out, in, 4, 4)."""
    return w.unflatten(1, (-1, 4, 4))


def merge_weight(w: Tensor) -> Tensor:
    """Kernel (out, in, 2, 2) to linear weight over (row, column, channel)."""
    return w.permute(0, 2, 3, 1).flatten(1)


def merge_kernel(w: Tensor) -> Tensor:
    """The inverse of :func:`merge_weight`: kernel (out, in, 2, 2)."""
    return w.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2)


def split_weight(w: Tensor) -> Tensor:
    """Transposed-convolution kernel (in, out, 2, 2) to linear weight with rows (row, column, out)."""
    return w.permute(2, 3, 1, 0).flatten(0, 2)


def split_kernel(w: Tensor) -> Tensor:
    """The inverse of :func:`split_weight`: kernel (in, out, 2, 2)."""
    return w.unflatten(0, (2, 2, -1)).permute(3, 2, 0, 1)


def swap_cells(w: Tensor) -> Tensor:
    """The last dimension from (column, row, channel) to (row, column, channel) of a 2x2 cell, and back."""
    return w.unflatten(-1, (2, 2, -1)).transpose(-3, -2).flatten(-3)


def square_grid(table: Tensor) -> Tensor:
    """``(1, N, C)`` to ``(1, h, w, C)``; a table that is a grid already stays. The layout stores no grid, so
    it must be square.

    Raises:
        CheckpointError: N is not the square of an integer.
    """
    if table.ndim == 4:
        return table
    side = math.isqrt(table.shape[1])
    if side * side != table.shape[1]:
        raise CheckpointError(
            f"pos_embed has {table.shape[1]} positions, which do not form a square grid: reshape it to "
            "(1, rows, columns, C)"
        )
    return table.unflatten(1, (side, side))


def grid_tokens(table: Tensor) -> Tensor:
    """Position table (1, rows, columns, C) to (1, rows * columns, C)."""
    return table.flatten(1, 2)


@dataclass(frozen=True)
class Rule:
    """One family of names: official pattern and our pattern share the groups."""

    official: str
    ours: str
    there: Reshape = same
    back: Reshape = same


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(re.sub(r"{(\w)}", lambda m: f"(?P<{m[1]}>{_GROUPS[m[1]]})", escaped) + "$")


class RuleSet:
    """Rules in order of trial.

    The flat block index of an official name has to be replaced by stage and index first.
    """

    def __init__(self, rules: list[Rule]):
        self._there = [(_pattern(r.official), r) for r in rules]
        self._back = [(_pattern(r.ours), r) for r in rules]

    def to_ours(self, name: str, value: Tensor) -> tuple[str, Tensor] | None:
        """Our name and tensor, or None when no rule knows the name.

        Raises:
            CheckpointError: the tensor has another number of dimensions, or can't be divided so.
        """
        for pattern, rule in self._there:
            if match := pattern.match(name):
                return rule.ours.format(**match.groupdict()), _reshaped(name, value, rule.there)
        return None

    def to_official(self, name: str, value: Tensor) -> tuple[str, Tensor] | None:
        """The inverse of :meth:`to_ours`.

        Raises:
            CheckpointError: as there.
        """
        for pattern, rule in self._back:
            if match := pattern.match(name):
                return rule.official.format(**match.groupdict()), _reshaped(name, value, rule.back)
        return None


def _reshaped(name: str, value: Tensor, reshape: Reshape) -> Tensor:
    try:
        return reshape(value)
    except CheckpointError:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{name} has the shape {tuple(value.shape)}, which its layout does not allow"
        ) from error
