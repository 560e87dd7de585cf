"""Reading checkpoint files without running any code in them."""

import argparse
import collections
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError

_WRAPPERS = ("module", "model", "state_dict")
_REMEDY = (
    "If you trust its origin, rewrite its tensors as .safetensors on a machine of your own, "
    "and load that file instead"
)


def _allowed() -> list[Any]:
    """Types a checkpoint may hold beyond tensors and plain containers: data only, none of them calls
    anything."""
    scalar = np.float64(0).__reduce__()[0]  # numpy moved it; pickles name its old place or its new one
    dtypes = [type(np.dtype(t)) for t in (np.float64, np.float32, np.float16, np.int64, np.int32, np.bool_)]
    return [
        argparse.Namespace,
        collections.OrderedDict,
        collections.defaultdict,
        np.dtype,
        np.ndarray,
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        *dtypes,
    ]


def load_state_file(path: str | Path) -> dict[str, Any]:
    """The contents of a ``.safetensors`` or of a torch checkpoint, on the CPU.

    Raises:
        CheckpointError: no such file; not a checkpoint; truncated; or it holds objects that could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty")
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_torch(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dict of tensors")
    return content


def _load_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole .safetensors file ({error})") from error


def _load_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        name = _refused(str(error))
        if name:
            raise CheckpointError(
                f"{path}: it holds {name}, which is not data and could run code; "
                f"nothing was executed. {_REMEDY}"
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({_first_line(error)})") from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
    ) as error:
        # what torch's readers raise on files that are truncated or something else altogether
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _refused(message: str) -> str:
    """The global that torch's restricted unpickler named in its refusal, '' if it refused for another
    reason."""
    for marker in ("Unsupported global: GLOBAL ", "Trying to load unsupported GLOBAL ", "unsupported class "):
        if marker in message:
            return message.split(marker, 1)[1].split()[0].rstrip(".,")
    return ""


def unwrap(content: dict[str, Any], prefer_average: bool = False) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, in float32: under ``module`` (DeepSpeed), ``model``,
    ``state_dict``, or bare.

    Args:
        prefer_average: take the moving average (``model_ema``) when there is one.
    """
    wrappers = ("model_ema", *_WRAPPERS) if prefer_average else _WRAPPERS
    found: Any = content
    while True:
        inner = next((found[w] for w in wrappers if isinstance(found.get(w), dict)), None)
        if inner is None:
            break
        found = inner
    state = {}
    for key, value in found.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            state[str(key).removeprefix("module.")] = value.float() if value.is_floating_point() else value
    return state
