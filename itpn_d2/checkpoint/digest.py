"""The digest that every checkpoint of ours carries, by which a changed byte is noticed when it is read.

It is the CRC-32 of the whole file: in a torch file, which is a zip archive, it is the archive's comment; in a
safetensors file an entry of the header's metadata, taken as zeros for the sum. Other readers of these formats
ignore both. It detects damage, not malice.
"""

import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from ..errors import CheckpointError
from .archive import SIGNATURE

KEY = "itpn_d2.digest"  # in the metadata of a safetensors file
BLANK = "crc32:00000000"
_VALUE = re.compile(rb"crc32:([0-9a-f]{8})")
_COMMENT = re.compile(rb"itpn_d2 crc32:([0-9a-f]{8})")
_END = struct.Struct("<4s16xH")  # of an archive's directory: signature, length of the comment
_LENGTH = struct.Struct("<Q")  # of a safetensors header
_CHUNK = 1 << 20


def seal(path: Path) -> None:
    """Give a file, which torch.save or safetensors (with ``{KEY: BLANK}``) has just written, its digest."""
    with open(path, "rb+") as file:
        size = file.seek(0, 2)
        if path.suffix == ".safetensors":
            place = _place(_header(file, size))
            assert place is not None
            found = _sum(file, size, place)
            file.seek(place)
            file.write(b"%08x" % found)
            return
        comment = b"itpn_d2 " + BLANK.encode()
        file.seek(size - _END.size)
        assert _END.unpack(file.read(_END.size)) == (b"PK\x05\x06", 0)
        file.seek(size - 2)
        file.write(len(comment).to_bytes(2, "little"))
        found = _sum(file, size)
        file.seek(size)
        file.write(b"itpn_d2 crc32:%08x" % found)


def check(path: Path) -> bool:
    """Compare a file with its digest; whether it has one.

    Raises:
        CheckpointError: it has changed since it was written.
    """
    with open(path, "rb") as file:
        zipped = file.read(len(SIGNATURE)) == SIGNATURE
        size = file.seek(0, 2)
        if zipped:
            comment = zipfile.ZipFile(file).comment
            match = _COMMENT.fullmatch(comment)
            if match is None:
                if b"itpn_d2 " in comment or _VALUE.search(comment):
                    raise _damaged(path)
                return False
            wanted, found = match[1], _sum(file, size - len(comment))
        else:
            header = _header(file, size)
            place = _place(header)
            if place is None:
                if KEY.encode() in header:
                    raise _damaged(path)
                return False
            start = place - _LENGTH.size
            wanted, found = header[start : start + 8], _sum(file, size, place)
    if int(wanted, 16) != found:
        raise _damaged(path)
    return True


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: damaged, since its checksum is wrong: bytes have changed after it was written; download "
        "or copy it again, or use an earlier checkpoint"
    )


def _header(file: BinaryIO, size: int) -> bytes:
    """The header of a safetensors file, b"" of any other."""
    file.seek(0)
    head = file.read(_LENGTH.size)
    length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else 0
    return file.read(length) if 0 < length <= size - _LENGTH.size else b""


def _place(header: bytes) -> int | None:
    """Where in the file the eight figures stand; None where there are none."""
    match = re.search(rb'"' + re.escape(KEY.encode()) + rb'" *: *"crc32:([0-9a-f]{8})"', header)
    match = match or re.search(rb'[^\\]" *: *"crc32:([0-9a-f]{8})"', header)  # a key that is damaged
    return None if match is None else _LENGTH.size + match.start(1)


def _sum(file: BinaryIO, end: int, blank: int | None = None) -> int:
    """CRC-32 of the file up to ``end``, with eight zeros at ``blank``."""
    file.seek(0)
    total, left = 0, end
    if blank is not None:
        total = zlib.crc32(b"0" * 8, zlib.crc32(file.read(blank)))
        file.seek(blank + 8)
        left -= blank + 8
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        total = zlib.crc32(chunk, total)
        left -= len(chunk)
    return total
