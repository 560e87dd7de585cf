"""Images in tar files (WebDataset's layout): an index of their positions makes them a source like a folder,
with an exact order and exact resuming for any number of processes.

A picture ``a/b.jpg`` may have a member ``a/b.cls`` beside it, whose text is its class.
"""

import hashlib
import json
import logging
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import DatasetError
from ..files import cache_root, write_json, written_whole
from .image_sources import EXTENSIONS, ImageSource
from .members import file_system, is_url, member_address

logger = logging.getLogger(__name__)
_BLOCK = 512  # bytes
_COLUMNS = 4  # of the index: number of the tar file, offset, size, label


class ShardTable:
    """The addresses of the pictures, made on access from a table of numbers that workers and processes map
    from one file."""

    def __init__(self, tars: Sequence[str], index: Path):
        self.tars, self.file = tuple(tars), index
        self._rows = np.load(index, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> str:
        tar, offset, size, _ = self._rows[number].tolist()
        return member_address(self.tars[tar], offset, size)

    def __reduce__(self) -> Any:
        return ShardTable, (self.tars, self.file)


def image_shards(shards: str, labelled: bool = False) -> ImageSource:
    """The images in tar files, in the order of the sorted files and of their members.

    Args:
        shards: a folder of ``.tar`` files, a pattern (``/data/train-*.tar``), or one file; also as an address
            that fsspec knows (``s3://bucket/train-*.tar``).
        labelled: each image has to have a ``.cls`` member. The classes are their texts, sorted; as numbers if
            all are.

    Raises:
        DatasetError: there is no such file, one is no uncompressed tar file or is cut off, there is no image
            in them, or one without a class.
    """
    tars = _expand(shards)
    key = json.dumps([[tar, *_state(tar)] for tar in tars] + [list(EXTENSIONS)])
    index = cache_root() / "shards" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
    classes = kept_index(index)
    if classes is None:
        classes = _write_index(index, tars)
    table = ShardTable(tars, index)
    if not len(table):
        raise DatasetError(
            f"{shards}: it contains no image; members are images if they end in {', '.join(EXTENSIONS)}"
        )
    summary = {"kind": "shards", "root": shards, "images": len(table)}
    if not labelled:
        return ImageSource(table, "", summary)
    labels = np.asarray(np.load(index, mmap_mode="r")[:, 3], dtype=np.int32)
    if (labels < 0).any():
        first = int(np.argmax(labels < 0))
        raise DatasetError(
            f"{shards}: {int((labels < 0).sum())} images have no class; the first is {table[first]}: "
            "write a .cls member beside each, as itpn-shards --labelled does"
        )
    return ImageSource(table, "", summary, labels, tuple(classes))


def are_shards(place: str) -> bool:
    """Whether a path is that of tar files."""
    if is_url(place) or place.endswith(".tar") or "*" in os.path.basename(place):
        return True
    return bool(place) and os.path.isdir(place) and any(n.endswith(".tar") for n in os.listdir(place))


def _expand(shards: str) -> list[str]:
    """The tar files that a path stands for, sorted."""
    if is_url(shards):
        system, path = file_system(shards)
        try:
            found = system.glob(path if "*" in path or path.endswith(".tar") else f"{path.rstrip('/')}/*.tar")
        except OSError as error:
            raise DatasetError(f"{shards}: it can't be listed ({error})") from error
        tars = [system.unstrip_protocol(name) for name in found]
    else:
        place = Path(shards)
        if shards and place.is_dir():
            tars = [str(p) for p in place.glob("*.tar")]
        elif shards and place.is_file():
            tars = [shards]
        else:
            tars = [str(p) for p in place.parent.glob(place.name)] if "*" in place.name else []
    if not tars:
        raise DatasetError(f"{shards!r}: no .tar file found; give a folder of tar files or a pattern")
    return sorted(tars)


def _state(tar: str) -> list[Any]:
    """What of a file changes when its content does."""
    if is_url(tar):
        system, path = file_system(tar)
        known = system.info(path)
        return [known.get("size"), str(known.get("ETag") or known.get("mtime") or known.get("LastModified"))]
    found = os.stat(tar)
    return [found.st_size, found.st_mtime_ns]


def kept_index(index: Path) -> list[str] | None:
    """The classes of an index that is there and whole; else None."""
    try:
        rows = np.load(index, mmap_mode="r")
        facts = json.loads(index.with_suffix(".json").read_text())
        good = rows.dtype == np.int64 and rows.ndim == 2 and rows.shape == (facts["images"], _COLUMNS)
        return (
            list(facts["classes"]) if good and hashlib.sha256(rows).hexdigest() == facts["digest"] else None
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _write_index(index: Path, tars: Sequence[str]) -> list[str]:
    """Look through all files, once; the classes found."""
    rows: list[tuple[int, int, int]] = []
    names: list[str] = []
    for number, tar in enumerate(tars):
        logger.info("%s: indexing", tar)
        for offset, size, label in _members(tar):
            rows.append((number, offset, size))
            names.append(label)
    given = {name for name in names if name}
    classes = sorted(given, key=int if all(name.isdecimal() for name in given) else None)
    order = {name: i for i, name in enumerate(classes)}
    labels = np.array([order.get(name, -1) for name in names], np.int64).reshape(-1, 1)
    write_index(index, np.hstack((np.array(rows, np.int64).reshape(-1, 3), labels)), classes)
    return classes


def write_index(index: Path, table: np.ndarray, classes: Sequence[str]) -> None:
    """Write the index of a :class:`ShardTable`, int64 ``(N, 4)``: number of the file, offset and size of each
    picture, and its class or -1."""
    with written_whole(index) as partial, open(partial, "wb") as file:
        np.save(file, table)
    digest = hashlib.sha256(table.tobytes()).hexdigest()
    write_json(index.with_suffix(".json"), {"images": len(table), "classes": list(classes), "digest": digest})


def _members(tar: str) -> Iterator[tuple[int, int, str]]:
    """(offset, size, class) of each picture of a file; the class is empty where there is none."""
    pictures: list[tuple[str, int, int]] = []
    labels: dict[str, str] = {}
    try:
        with _opened(tar) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                stem, ending = os.path.splitext(member.name)
                if not member.isfile() or os.path.basename(stem).startswith("."):
                    continue
                if ending == ".cls":
                    text = archive.extractfile(member)
                    labels[stem] = (
                        text.read().decode("utf-8", "surrogateescape").strip() if text is not None else ""
                    )
                elif ending.lower() in EXTENSIONS:
                    pictures.append((stem, member.offset_data, member.size))
            file.seek(archive.offset)  # behind the last member: a block of zeros says that none is missing
            rest = file.read(_BLOCK)
            if len(rest) < _BLOCK or any(rest):
                raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, OSError) as error:
        raise DatasetError(
            f"{tar}: not a complete, uncompressed tar file ({error}); if it is truncated, copy or write "
            "it again"
        ) from error
    for stem, offset, size in pictures:
        yield offset, size, labels.get(stem, "")


def _opened(tar: str) -> IO[bytes]:
    if is_url(tar):
        system, path = file_system(tar)
        return system.open(path, "rb")
    return open(tar, "rb")
