"""The state dict inside the contents of a checkpoint file."""

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .stand_ins import NoWeights

WRAPPERS = ("module", "model", "state_dict")
# of the references, of timm's training script, of ours
_AVERAGES = (("model_ema",), ("state_dict_ema",), ("trainer", "average"))
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and of torch.compile
_DEPTH = 4  # wrappers in wrappers: a hostile file may contain itself
_LONGEST = 300  # characters of a name
_NUMBER = re.compile(r"\d{5,}")  # no list of modules has so many
_SLACK = 1 << 26  # bytes by which tensors may exceed their storages: tied and broadcast ones are small


@dataclass(frozen=True)
class Stored:
    """A state dict in its stored types, and the keys it was found under."""

    state: dict[str, Tensor]
    under: tuple[str, ...]

    @property
    def dtypes(self) -> list[str]:
        """Names of the floating types, commonest first."""
        kinds = [str(v.dtype).removeprefix("torch.") for v in self.state.values() if v.is_floating_point()]
        return sorted(set(kinds), key=kinds.count, reverse=True)

    def __str__(self) -> str:
        under = f"under {'.'.join(self.under)}" if self.under else "bare"
        return f"{len(self.state)} tensors, {under}, {', '.join(self.dtypes) or 'no floats'}"


def find_state(content: dict[str, Any], prefer_average: bool = False) -> Stored:
    """The state dict of a checkpoint: under ``module`` (DeepSpeed), ``model``, ``state_dict``, or bare.

    Args:
        prefer_average: take the moving average when there is one (``model_ema``, timm's ``state_dict_ema``,
            our own trainer's).

    Raises:
        CheckpointError: there are no tensors where they are looked for (the message says what is there); a
            tensor is not a dense one with data, or has no elements; a name is none; or the tensors are views
            much larger than it.
    """
    found, under = (_average(content) if prefer_average else None) or (content, [])
    for _ in range(_DEPTH):
        name = next((w for w in WRAPPERS if isinstance(found.get(w), dict)), None)
        if name is None:
            break
        found = found[name]
        under.append(name)
    state = {}
    for key, value in found.items():
        if isinstance(value, Tensor | NoWeights):
            name = str(key)
            for prefix in _PREFIXES:
                name = name.removeprefix(prefix)
            _check_name(name)
            state[name] = _dense(name, value)
    if not state:
        raise CheckpointError(_nothing(found, under))
    _check_views(state)
    return Stored(state, tuple(under))


def _check_name(name: str) -> None:
    if len(name) > _LONGEST:
        raise CheckpointError(
            f"{name[:60]}... is a name of {len(name)} characters, which is too long for any model"
        )
    if _NUMBER.search(name):
        raise CheckpointError(f"{name} has an index that is too large for any model")


def _nothing(found: dict[str, Any], under: list[str]) -> str:
    """The error message for a dict without tensors."""
    where = f"under {'.'.join(under)}" if under else "at its top level"
    if "blobs" in found:
        return (
            "it holds blobs, as Caffe2's Detectron wrote them: convert them with Detectron2 "
            "(detectron2.checkpoint.c2_model_loading), whose names are known here"
        )
    rows = []
    for key, value in list(found.items())[:8]:
        count = sum(isinstance(v, Tensor) for v in value.values()) if isinstance(value, dict) else 0
        what = f"a dict of {count} tensors" if count else type(value).__name__
        rows.append(f"{str(key)[:60]} ({what})")
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return (
        f"no tensors {where}, nor under {', '.join(WRAPPERS)}; the keys there are "
        f"{', '.join(rows) or 'none'}{more}: save the dict of the weights alone, or under one of those names"
    )


def _average(content: dict[str, Any]) -> tuple[dict[str, Any], list[str]] | None:
    """The moving average in a file and the keys it was found under, None if there is none."""
    for keys in _AVERAGES:
        found: Any = content
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, dict) and found:
            return found, list(keys)
    return None


def _dense(name: str, value: Tensor | NoWeights) -> Tensor:
    if isinstance(value, NoWeights):
        raise CheckpointError(f"{name} {value.reason}")
    value = value.detach()
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        kind = "quantized" if value.is_quantized else "complex" if value.is_complex() else "sparse"
        raise CheckpointError(f"{name} is {kind}: save it as a dense tensor of real numbers")
    if value.device.type == "meta":
        raise CheckpointError(f"{name} has a shape but no data: it was saved from the meta device")
    if value.is_floating_point() and not value.numel():
        raise CheckpointError(f"{name} is empty, its shape is {tuple(value.shape)}: save the model again")
    return value


def _check_views(state: dict[str, Tensor]) -> None:
    """Refuse views that are much larger than their data, since a copy would need memory for all their
    elements."""
    claimed = sum(v.numel() * v.element_size() for v in state.values())
    storages = {v.untyped_storage().data_ptr(): v.untyped_storage().nbytes() for v in state.values()}
    if claimed > 2 * sum(storages.values()) + _SLACK:
        largest = max(state, key=lambda name: state[name].numel())
        raise CheckpointError(
            f"the tensors claim {claimed} bytes over {sum(storages.values())} of data ({largest}: "
            f"{tuple(state[largest].shape)}): they are views of a few numbers, not weights"
        )


def unwrap(content: dict[str, Any], prefer_average: bool = False) -> dict[str, Tensor]:
    """The state dict of :func:`find_state`, in float32."""
    state = find_state(content, prefer_average).state
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
