"""Reading checkpoint files without running any code in them."""

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .archive import check_archive, check_storages
from .stand_ins import allowed, without_nodes

_REMEDY = (
    "If you trust its origin, rewrite its tensors as .safetensors on a machine of your own, "
    "and load that file instead"
)
METADATA = "itpn_d2"  # the entry of a .safetensors header that holds what is no tensor, as json


def load_state_file(path: str | Path) -> dict[str, Any]:
    """The contents of a ``.safetensors`` or of a torch checkpoint, on the CPU.

    Raises:
        CheckpointError: no such file; not a checkpoint; truncated or damaged; larger unpacked than it is; or
            it holds objects that could run code.
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
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(str(path), "pt") as file:
            extra = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        content: dict[str, Any] = dict(load_file(str(path)))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a whole .safetensors file ({_first_line(error)})") from error
    origin = extra.get("pretraining") if isinstance(extra, dict) else None
    return {"pretraining": origin, **content} if isinstance(origin, dict) else content


def _load_torch(path: Path) -> Any:
    zipped = zipfile.is_zipfile(path)
    available = check_archive(path) if zipped else path.stat().st_size
    try:
        with torch.serialization.safe_globals(allowed()):
            content = without_nodes(torch.load(path, map_location="cpu", weights_only=True, mmap=zipped))
    except pickle.UnpicklingError as error:
        name = _refused(str(error))
        if name:
            raise CheckpointError(
                f"{path}: it holds {name}, which is not data and could run code; "
                f"nothing was executed. {_REMEDY}"
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({_first_line(error)})") from error
    except Exception as error:
        # torch's readers raise nearly anything on files that are truncated, or something else altogether
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one ({_first_line(error)})") from error
    check_storages(path, content, available)
    return content


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _refused(message: str) -> str:
    """The global that torch's restricted unpickler named in its refusal, '' if it refused for another
    reason."""
    for marker in ("Unsupported global: GLOBAL ", "Trying to load unsupported GLOBAL ", "unsupported class "):
        if marker in message:
            return message.split(marker, 1)[1].split()[0].rstrip(".,")
    return ""
