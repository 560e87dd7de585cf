"""Weights that are not finite, or too large for the model's type, are refused by name before they are
loaded."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..errors import CheckpointError

_SHOWN = 3  # names in a message


def check_finite(chosen: Mapping[str, Tensor], stored: Mapping[str, Tensor] | None = None) -> None:
    """Look at tensors that are about to be loaded.

    Args:
        stored: the same as the file has them, in its own types.

    Raises:
        CheckpointError: some contain NaN or infinite numbers, or would in the model's type.
    """
    broken = [name for name, value in chosen.items() if not is_finite(value)]
    if not broken:
        return
    overflown = [name for name in broken if stored is not None and is_finite(stored[name])]
    if len(overflown) == len(broken):
        kind = str(chosen[broken[0]].dtype).removeprefix("torch.")
        raise CheckpointError(
            f"{_names(broken)} contain numbers beyond the range of {kind}: load the file into a model of "
            "float32 or bfloat16"
        )
    raise CheckpointError(
        f"{_names([n for n in broken if n not in overflown])} contain NaN or infinite numbers, as after a "
        "diverged training or a conversion to half precision: use an earlier checkpoint, or the file in "
        "its original precision"
    )


def is_finite(value: Tensor) -> bool:
    """Whether all elements of a tensor are, of a sharded one those that this process has; without a copy."""
    value = value.to_local() if isinstance(value, DTensor) else value
    if not value.is_floating_point() or not value.numel():
        return True
    if value.dtype.itemsize == 1:  # types without a minimum
        value = value.float()
    # a NaN is both the smallest and the largest
    return all(bool(torch.isfinite(edge)) for edge in torch.aminmax(value))


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} tensors ({', '.join(names[:_SHOWN])}{more})"
