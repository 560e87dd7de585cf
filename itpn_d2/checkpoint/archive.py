"""Whether a torch file is whole and as large as it says, before and after its tensors are read.

A zip archive may hold compressed, overlapping or nested entries, and a tensor may declare a storage, or a
view of one, that is larger than anything in the file. What torch.save writes has none of these.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

_PICKLE_LIMIT = 1 << 28  # bytes of names and shapes: thousands of times what a large model needs


def check_archive(path: Path) -> int:
    """The bytes of tensor data in a zip file that torch can read.

    Raises:
        CheckpointError: it is no torch file, compressed, longer unpacked than it is, or damaged (checksums).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: not a checkpoint, or a damaged one ({error}); fetch it again"
        ) from error
    if broken is not None:
        raise CheckpointError(f"{path}: damaged, the checksum of {broken} is wrong; fetch it again")
    return sum(e.file_size for e in entries)


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    pickles = [e for e in entries if e.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        inside = ", ".join(e.filename for e in entries[:4])
        raise CheckpointError(
            f"{path}: a zip archive, but not one of torch ({len(entries)} entries: {inside}). "
            f"If a checkpoint is inside, unpack it and name that file"
        )
    packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1]
    if packed:
        raise CheckpointError(
            f"{path}: {packed[0]} is compressed or encrypted, which torch.save never does; "
            f"ask for the file as it was saved"
        )
    total = sum(e.file_size for e in entries)
    if total > path.stat().st_size:
        raise CheckpointError(
            f"{path}: its entries claim {total} bytes, the file has {path.stat().st_size}; they overlap"
        )
    if pickles[0].file_size > _PICKLE_LIMIT:
        raise CheckpointError(f"{path}: {pickles[0].file_size} bytes of names and shapes are no model's")


def tensors(content: Any) -> Iterator[Tensor]:
    """Every tensor of nested dicts, lists and tuples, each container once."""
    seen, todo = set(), [content]
    while todo:
        item = todo.pop()
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (dict, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            todo.extend(item.values() if isinstance(item, dict) else item)


def check_storages(path: Path, content: Any, available: int) -> None:
    """CheckpointError if the tensors of ``content`` claim more bytes than ``available``, or the same ones."""
    claimed: dict[int, int] = {}
    for tensor in tensors(content):
        if tensor.layout == torch.strided and tensor.device.type == "cpu":
            storage = tensor.untyped_storage()
            if storage.nbytes():
                claimed[storage.data_ptr()] = storage.nbytes()
    places = sorted(claimed.items())
    overlap = any(a + size > b for (a, size), (b, _) in zip(places, places[1:], strict=False))
    if overlap or sum(claimed.values()) > available:
        raise CheckpointError(
            f"{path}: its tensors claim {sum(claimed.values())} bytes, the file holds {available}; "
            f"it is damaged or made to exhaust memory"
        )
