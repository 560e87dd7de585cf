"""Whether a zip file is one that torch.save wrote, whole and as large as it says, before it is read.

A zip archive may hold compressed, overlapping or nested entries. What torch.save writes has none of these.
"""

import struct
import zipfile
from pathlib import Path
from typing import BinaryIO

from ..errors import CheckpointError

SIGNATURE = b"PK\x03\x04"  # that a file of torch.save begins with, and each of its entries
_PICKLE_LIMIT = 1 << 26  # bytes of names and shapes: a hundred times what a large model needs
_MOST_ENTRIES = 200_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field


def check_archive(path: Path, sums: bool = True) -> None:
    """Look at the entries of a zip file.

    Args:
        sums: compare their checksums as well, which reads the whole file.

    Raises:
        CheckpointError: it is no torch file, compressed, longer unpacked than it is, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(path, entries)
            broken = archive.testzip() if sums else None
    except CheckpointError:
        raise
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint, or a damaged one ({error}); fetch it again"
        ) from error
    if broken is not None:
        raise CheckpointError(f"{path}: damaged, the checksum of {broken} is wrong; fetch it again")


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > _MOST_ENTRIES:
        raise CheckpointError(f"{path}: {len(entries)} entries are too many for a model")
    main = pickle_entry(path, entries)
    packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1]
    if packed:
        raise CheckpointError(
            f"{path}: {packed[0]} is compressed or encrypted, which torch.save never does; get the file "
            "as it was saved"
        )
    total = sum(e.file_size for e in entries)
    if total > path.stat().st_size:
        raise CheckpointError(
            f"{path}: its entries claim {total} bytes, the file has {path.stat().st_size}; they overlap"
        )
    if main.file_size > _PICKLE_LIMIT:
        raise CheckpointError(f"{path}: {main.file_size} bytes of names and shapes are too many for a model")


def pickle_entry(path: Path, entries: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The entry with names and shapes.

    Raises:
        CheckpointError: there is none, or several.
    """
    pickles = [e for e in entries if e.filename.endswith("/data.pkl")]
    if len(pickles) == 1:
        return pickles[0]
    inside = ", ".join(e.filename[:80] for e in entries[:4])
    raise CheckpointError(
        f"{path}: a zip archive, but not one of torch ({len(entries)} entries: {inside}). "
        f"If a checkpoint is inside, unpack it and name that file"
    )


def data_offset(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> int:
    """Where the bytes of a stored entry begin in a file of ``size`` bytes.

    Raises:
        ValueError: its header is none, or it reaches beyond the end.
    """
    file.seek(entry.header_offset)
    head = file.read(_LOCAL_HEADER.size)
    if len(head) < _LOCAL_HEADER.size or not head.startswith(SIGNATURE):
        raise ValueError(f"the header of {entry.filename} is damaged")
    _, name, extra = _LOCAL_HEADER.unpack(head)
    start = entry.header_offset + _LOCAL_HEADER.size + name + extra
    if start + entry.file_size > size:
        raise ValueError(f"{entry.filename} reaches beyond the end of the file")
    return start
