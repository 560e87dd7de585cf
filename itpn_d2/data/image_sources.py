"""Where the images are: millions of paths in two arrays, and the four kinds of source that fill them."""

import logging
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import DatasetError
from ..files import cache_root
from .find import ImageFinder
from .problems import read_json
from .records import required
from .scenes import generate_scenes
from .values import BadValue, text

logger = logging.getLogger(__name__)

_LOOKED_FOR = 100  # images of a json: where these go by their names, so do the others
EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


class Paths(Protocol):
    """As much of a sequence of paths as a source needs."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> str: ...


class PathTable:
    """Read-only sequence of strings, held as one block of bytes and the offset of each string in it.

    Two arrays, whatever the length: forked workers share them without touching a reference count, and
    spawned ones get two copies of memory instead of unpickling millions of objects. Names that are no UTF-8
    survive the round trip.
    """

    def __init__(self, strings: Iterable[str]):
        """Consume ``strings`` one by one; no list of them is made."""
        data, offsets = bytearray(), array("q", [0])
        for string in strings:
            data += string.encode("utf-8", "surrogateescape")
            offsets.append(len(data))
        self._data = np.frombuffer(data, dtype=np.uint8)
        self._offsets = np.frombuffer(offsets, dtype=np.int64)
        self._data.flags.writeable = self._offsets.flags.writeable = False

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} in a table of {len(self)}")
        start, end = self._offsets[index % len(self) :][:2]
        return self._data[start:end].tobytes().decode("utf-8", "surrogateescape")

    @property
    def nbytes(self) -> int:
        """Memory of the two arrays, in bytes."""
        return self._data.nbytes + self._offsets.nbytes


@dataclass(frozen=True, eq=False)  # arrays don't compare to one truth value
class ImageSource:
    """A set of images.

    Attributes:
        paths: relative to ``root`` (or absolute, which then wins).
        root: the folder, stored once.
        summary: what to write in a checkpoint: ``kind``, ``root`` (and ``file``), number of ``images``.
        labels: (N,) int32 indices into ``classes``, None without labels.
        classes: class names.
    """

    paths: Paths
    root: str
    summary: dict[str, Any]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        """The file of image ``index``."""
        return os.path.join(self.root, self.paths[index])


def image_folder(root: str, extensions: tuple[str, ...] = EXTENSIONS, labelled: bool = False) -> ImageSource:
    """Every image below ``root``, in the order of the sorted names. Hidden files and folders are left out.

    Args:
        extensions: endings that make a file an image, in lower case; those of the files may be upper case.
        labelled: take each folder directly in ``root`` as a class; an empty one keeps its number.

    Raises:
        DatasetError: no such folder, no image in it, or ``labelled`` and an image outside the class folders.
    """
    _require_folder(root, "the image folder")
    endings = tuple(e.lower() for e in extensions)
    remedy = f"files ending in {', '.join(endings)} are looked for"
    if not labelled:
        table = PathTable(_walk(str(root), "", endings, ()))
        return _source("folder", str(root), table, remedy)
    folders, loose = _entries(str(root), endings)
    if loose:
        raise DatasetError(
            f"{os.path.join(root, loose[0])}: it is not in a class folder; move it into one, or give a "
            f"text file with lines path,label instead of {root}"
        )
    labels = array("i")

    def labelled_paths() -> Iterator[str]:
        for label, folder in enumerate(folders):
            for path in _walk(str(root), folder, endings, ()):
                labels.append(label)
                yield path

    table = PathTable(labelled_paths())
    return _source("folder", str(root), table, remedy, np.array(labels, dtype=np.int32), tuple(folders))


def coco_images(json: str, images: str) -> ImageSource:
    """The images of a COCO json, in its order; annotations are not looked at.

    Raises:
        DatasetError: no such json or folder, or the json is broken or lists no image.
    """
    if not Path(json).is_file():
        raise DatasetError(f"{json or 'json'}: no such file; give the path of a COCO json")
    _require_folder(images, "the folder of the json's images")
    data = read_json(Path(json), ("images",), "a COCO json")
    finder = ImageFinder(images)

    def names() -> Iterator[str]:
        found_as_named = True  # until one is not: then every name is looked for
        for number, record in enumerate(data["images"]):
            try:
                name = text(required(record, "file_name")["file_name"], "file_name")
            except BadValue as error:
                raise DatasetError(
                    f"{json}: images[{number}]: {error}; correct or remove the record"
                ) from error
            if number < _LOOKED_FOR or not found_as_named:
                found = finder.find(name)
                if found != name:
                    if found is not None and found_as_named:
                        logger.info(
                            "%s: %s is found as %s; other names are matched in the same way",
                            json,
                            name,
                            found,
                        )
                    found_as_named = False
                    name = found or name
            yield name

    return _source("coco", str(images), PathTable(names()), "its list of images is empty", file=str(json))


def text_list(file: str, root: str = "", labelled: bool = False) -> ImageSource:
    """The images named in a text file, one path per line; blank lines and those that start with # are
    skipped.

    Args:
        root: what relative paths are relative to; by default the folder of the file.
        labelled: lines are ``path<tab>label``, ``path,label`` (the last comma counts; a first line of just
            these words is a heading) or ``image.jpg 7``, as ImageNet's lists are passed on. The classes are
            the labels found, sorted; as numbers if all are.

    Raises:
        DatasetError: no such file or folder, no path in the file, or ``labelled`` and a line without a label.
    """
    if not Path(file).is_file():
        raise DatasetError(f"{file or 'file'}: no such file; give a text file with one image path per line")
    if root:
        _require_folder(root, "the folder of the listed images")
    found: dict[str, int] = {}  # label to its number, in the order of appearance
    numbers = array("i")

    def paths() -> Iterator[str]:
        with open(file, encoding="utf-8-sig", errors="surrogateescape") as lines:
            for number, line in enumerate(map(str.strip, lines), 1):
                if not line or line.startswith("#"):
                    continue
                if labelled:
                    path, label = _path_and_label(line)
                    if not path or not label:
                        raise DatasetError(f"{file}, line {number}: no label; write path,label")
                    if not numbers and (path.lower(), label.lower()) == ("path", "label"):
                        continue
                    numbers.append(found.setdefault(label, len(found)))
                    line = path
                yield line

    table = PathTable(paths())
    where = str(root or Path(file).parent)
    if not labelled:
        return _source("list", where, table, "write one path per line", file=str(file))
    classes = sorted(found, key=int if all(label.isdecimal() for label in found) else None)
    order = {label: i for i, label in enumerate(classes)}
    places = np.array([order[label] for label in found], dtype=np.int32)
    labels = places[np.array(numbers, dtype=np.int32)] if numbers else places
    return _source("list", where, table, "write path,label lines", labels, tuple(classes), file=str(file))


def _path_and_label(line: str) -> tuple[str, str]:
    """One of them is empty where the line has no label."""
    path, _, label = (p.strip() for p in line.rpartition("\t" if "\t" in line else ","))
    if not path:  # a blank is a mark only between the name of an image and a number: names may hold some
        first, _, last = line.rpartition(" ")
        if last.isdecimal() and first.strip().lower().endswith(EXTENSIONS):
            return first.strip(), last
    return path, label


def scenes(
    split: str = "train", num_images: int = 256, size: int = 160, seed: int = 7, root: str | None = None
) -> ImageSource:
    """Quick-start scenes, drawn on first use under ``root`` (default: the cache); see
    :func:`itpn_d2.data.generate_scenes`."""
    base = Path(root) if root else cache_root() / "quickstart"
    folder = str(generate_scenes(base, split, num_images, size, seed) / "images")
    return _source(
        "scenes",
        folder,
        PathTable(_walk(folder, "", (".png",), ())),
        "delete the folder to have it drawn anew",
    )


def _require_folder(path: str, what: str) -> None:
    if not path or not Path(path).is_dir():
        raise DatasetError(f"{path or repr(path)}: no such folder; give the path of {what}")


def _source(
    kind: str,
    root: str,
    table: PathTable,
    remedy: str,
    labels: np.ndarray | None = None,
    classes: tuple[str, ...] = (),
    **where: str,
) -> ImageSource:
    if not len(table):
        raise DatasetError(f"{where.get('file', root)}: no image; {remedy}")
    return ImageSource(
        table, root, {"kind": kind, "root": root, **where, "images": len(table)}, labels, classes
    )


def _entries(folder: str, endings: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Sorted names of the sub-folders and of the images directly in ``folder``."""
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.name.lower().endswith(endings):
                    files.append(entry.name)
    except OSError as error:
        raise DatasetError(f"{folder}: can't be listed ({error.strerror}); check its permissions") from error
    return sorted(folders), sorted(files)


def _walk(root: str, relative: str, endings: tuple[str, ...], above: tuple[str, ...]) -> Iterator[str]:
    """Paths relative to ``root``; one folder's names are in memory at a time."""
    folder = os.path.join(root, relative)
    real = os.path.realpath(folder)
    if real in above:  # a link to a folder that holds it
        return
    folders, files = _entries(folder, endings)
    for name in files:
        yield os.path.join(relative, name)
    for name in folders:
        yield from _walk(root, os.path.join(relative, name), endings, (*above, real))
