"""Reading checkpoint files without running any code in them."""

import json
import mmap
import stat
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from . import digest
from .archive import SIGNATURE, check_archive
from .stand_ins import Unread
from .torch_file import is_legacy, read_legacy, read_zip
from .unpickle import ForbiddenNameError, PickleError, read_pickle

METADATA = "itpn_d2"  # the entry of a .safetensors header that holds what is no tensor, as json
BESIDE = ("pretraining", "classes")  # what that may be
_REMEDY = (
    "If you trust its origin, convert it to .safetensors on a separate machine and load the converted file"
)
_KINDS = (
    (stat.S_ISDIR, "a folder, not a file"),
    (stat.S_ISFIFO, "a pipe, not a file: write its bytes into a file first"),
    (lambda mode: not stat.S_ISREG(mode), "a device or socket, not a file"),
)
# what is found in the place of a checkpoint, by how it begins
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file that it stands for (git lfs pull)"),
    (b"<", "a web page: the address led to a page instead of the file"),
    (b"\x89HDF", "an HDF5 file: export its weights as a torch file or as .safetensors"),
    (b"\x1f\x8b", "compressed by gzip: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"(", "a pickle of protocol 0 or 1: save it with protocol 2 or later"),
)


def load_file(path: str | Path) -> dict[str, Any]:
    """The contents of a ``.safetensors`` or torch checkpoint, or of a pickle of numpy arrays like those of
    Detectron2's model zoo, on the CPU; the format is told by the content. Numpy's arrays become tensors.

    Raises:
        CheckpointError: no such file; not a checkpoint; truncated or damaged; larger unpacked than it is; or
            it holds objects that could run code.
    """
    path = Path(path)
    check_file(path)
    try:
        content = _read(path)
    except ForbiddenNameError as error:
        raise CheckpointError(
            f"{path}: it holds {error}, which is not data and could run code; nothing was executed. {_REMEDY}"
        ) from error
    except (PickleError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint, or a damaged one ({error}); fetch it again"
        ) from error
    if not isinstance(content, dict):
        what = "an object that is not read" if isinstance(content, Unread) else f"a {type(content).__name__}"
        raise CheckpointError(f"{path}: contains {what}, not a dict of tensors")
    return content


def check_file(path: Path) -> None:
    """Raises:
    CheckpointError: there is no file of that name, or an empty one.
    """
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise CheckpointError(f"{_short(path)}: no such file") from error
    except (OSError, ValueError) as error:  # a name that is too long, or has a zero byte
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(f"{_short(path)}: can't be read ({reason})") from error
    for applies, words in _KINDS:
        if applies(status.st_mode):
            raise CheckpointError(f"{path}: {words}")
    if status.st_size == 0:
        raise CheckpointError(f"{path}: the file is empty")


def _short(path: Path) -> str:
    name = str(path)
    return name if len(name) <= 300 else f"{name[:120]}...{name[-40:]} ({len(name)} characters)"


def _read(path: Path) -> Any:
    with open(path, "rb") as file:
        zipped = file.read(len(SIGNATURE)) == SIGNATURE
    if zipped:
        check_archive(path, sums=False)
        if not digest.check(path):
            check_archive(path)
        return read_zip(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content:
        head, size = content[:64], len(content)
        if is_legacy(head):
            return read_legacy(content)
        if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size or path.suffix == ".safetensors":
            return _read_safetensors(path)
        if head.startswith(b"\x80"):
            return read_pickle(content, size)
    for start, words in _OTHERS:
        if head.startswith(start):
            raise CheckpointError(f"{path}: not a checkpoint, but {words}")
    raise PickleError("neither a torch file nor a pickle")


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(str(path), "pt") as file:
            extra = json.loads((file.metadata() or {}).get(METADATA, "{}"))
        digest.check(path)
        content: dict[str, Any] = dict(load_file(str(path)))
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a complete .safetensors file ({_first_line(error)})") from error
    kept = extra if isinstance(extra, dict) else {}
    return {**{key: kept[key] for key in BESIDE if isinstance(kept.get(key), dict)}, **content}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
