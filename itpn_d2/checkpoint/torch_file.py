"""Reading the files of torch.save, in its zip format and in the earlier one, without torch.load: the pickle
inside by :mod:`.unpickle`, the numbers as views of the file.

A file may declare a storage that is larger than its bytes, or a view that is larger than its storage: every
size is compared with what is there before a byte is read.
"""

import io
import mmap
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from .archive import data_offset, pickle_entry
from .stand_ins import STORAGES, Storage
from .unpickle import PickleError, read_pickle

# of the format before zip: LONG1 of ten bytes, STOP
_MAGIC = b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
_PROTOCOL = 1001
_COUNT = struct.Struct("<q")  # before the numbers of a storage


def read_zip(path: Path) -> Any:
    """The content of a zip file whose entries :func:`.archive.check_archive` has seen. Tensors are views of
    the file: their numbers are read when they are used, and a change of them does not reach it.

    Raises:
        CheckpointError: a storage is not there, or not as large as declared. PickleError: see
            :func:`.read_pickle`.
    """
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        entries = {entry.filename: entry for entry in archive.infolist()}
        main = pickle_entry(path, list(entries.values()))
        folder = main.filename.removesuffix("data.pkl")
        order = entries.get(f"{folder}byteorder")
        swapped = order is not None and archive.read(order) not in (b"little", b"")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        known: dict[str, Storage] = {}

        def storage(reference: Any) -> Storage:
            kind, key, count = _reference(reference)
            if key in known:
                return known[key]
            entry = entries.get(f"{folder}data/{key}")
            if entry is None:
                raise PickleError(f"its storage {key!r} is not in the file")
            dtype = STORAGES[kind]
            if dtype is None:
                return known.setdefault(key, Storage(None, _words(kind)))
            if count * dtype.itemsize != entry.file_size:
                raise PickleError(
                    f"its storage {key!r} claims {count} numbers, {count * dtype.itemsize} bytes; it has "
                    f"{entry.file_size}"
                )
            numbers = torch.empty(0, dtype=dtype)
            if count:
                start = data_offset(file, entry, len(content))
                numbers = torch.frombuffer(content, dtype=dtype, count=count, offset=start)
                if start % dtype.itemsize:
                    numbers = numbers.clone()
                if swapped:
                    numbers = numbers.view(torch.uint8).view(-1, dtype.itemsize).flip(1).view(dtype).view(-1)
            return known.setdefault(key, Storage(numbers))

        return read_pickle(io.BytesIO(archive.read(main)), main.file_size, storage)


def read_legacy(content: mmap.mmap) -> Any:
    """The content of a file in torch's format before zip; ``content`` is all of it.

    Raises:
        PickleError: see :func:`.read_pickle`; a storage is not as large as declared.
    """
    known: dict[str, Storage] = {}
    size = left = len(content)

    def storage(reference: Any) -> Storage:
        nonlocal left
        if isinstance(reference, tuple) and len(reference) == 6:
            if reference[5] is not None:
                raise PickleError("it has views of storages, as torch wrote them before 0.4")
            reference = reference[:5]
        kind, key, count = _reference(reference)
        if key not in known:
            dtype = STORAGES[kind]
            left -= count * (1 if dtype is None else dtype.itemsize)
            if left < 0:
                raise PickleError(f"its storages claim more bytes than the {size} of the file")
            known[key] = Storage(None if dtype is None else torch.empty(count, dtype=dtype), _words(kind))
        return known[key]

    content.seek(0)
    read_pickle(content, size)  # the magic number
    if read_pickle(content, size) != _PROTOCOL:
        raise PickleError("it has an unknown version of torch's format")
    read_pickle(content, size)  # byte order and sizes of the machine that wrote it
    found = read_pickle(content, size, storage)
    keys = read_pickle(content, size)
    if not isinstance(keys, list) or len(keys) != len(known) or {*map(str, keys)} != known.keys():
        raise PickleError("the storages that it lists are not those that it uses")
    for key in keys:
        _fill(content, key, known[key])
    return found


def _fill(content: mmap.mmap, key: str, storage: Storage) -> None:
    """The numbers of a storage, which begin at the position of ``content``."""
    numbers = storage.numbers
    if numbers is None:
        raise PickleError(f"its storage {key!r} is {storage.kind}: save dense tensors of real numbers")
    head = content.read(_COUNT.size)
    if len(head) < _COUNT.size or _COUNT.unpack(head) != (len(numbers),):
        raise PickleError(f"its storage {key!r} is not as large as declared")
    start = content.tell()
    if start + numbers.nbytes > len(content):
        raise PickleError(f"it ends within its storage {key!r}")
    if len(numbers):
        numbers.copy_(torch.frombuffer(content, dtype=numbers.dtype, count=len(numbers), offset=start))
        content.seek(start + numbers.nbytes)


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins so is in torch's format before zip."""
    return head.startswith(b"\x80") and 0 < head.find(_MAGIC) < 16


def _reference(reference: Any) -> tuple[str, str, int]:
    """Kind, key and count of numbers of a storage."""
    if not isinstance(reference, tuple) or len(reference) != 5 or reference[0] != "storage":
        raise PickleError("it refers to data in a way that torch does not")
    _, kind, key, _, count = reference
    name = str(getattr(kind, "name", "")).rpartition(".")[2]
    if name not in STORAGES or not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 62:
        raise PickleError("it refers to a storage in a way that torch does not")
    return name, key, count


def _words(kind: str) -> str:
    return "complex" if kind.startswith("Complex") else "quantized"
