"""Custom semantic data: a folder of images, a folder of label images, a list of classes."""

import os
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES
from tqdm import tqdm

from ..errors import DatasetError
from .arrow import is_arrow, open_arrow
from .catalogs import is_registered, register, require_paths
from .decode import BrokenImageError, decode, open_image, upright_size
from .image_sources import image_folder
from .labels import IGNORED, MAX_CLASSES, Labelling
from .picture_check import VerifyImages
from .problems import Notes, Problem, read_text, settle

_LABEL_COLUMNS = ("annotation", "label", "labels", "mask")  # of pictures of a set of Hugging Face's
_LABEL_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm")  # those that lose nothing


def class_names(classes: str | Sequence[str]) -> list[str]:
    """Names in the order of their numbers: a list, or a text file with one name a line.

    Raises:
        DatasetError: none is given, the file is missing, a name is there twice, or there are too many.
    """
    if not classes:
        raise DatasetError(
            "no class names: set dataset.classes=FILE, with one name per line in the order of the class "
            "numbers"
        )
    names, where = [str(name) for name in classes], "dataset.classes"
    if isinstance(classes, str):
        where = classes
        if not Path(classes).is_file():
            raise DatasetError(f"dataset.classes={classes}: no such file")
        names = [line.strip() for line in read_text(Path(classes)).splitlines() if line.strip()]
    twice = sorted({n for n in names if names.count(n) > 1})
    if not names or twice:
        raise DatasetError(
            f"{where}: {f'class {twice[0]!r} occurs twice' if twice else 'it contains no class name'}"
        )
    if len(names) > MAX_CLASSES:
        raise DatasetError(f"{where}: {len(names)} classes; 8-bit labels hold {MAX_CLASSES}")
    return names


def register_semantic(
    name: str,
    images: str,
    labels: str,
    classes: str | Sequence[str],
    zero_is_other: bool = False,
    ignore_label: int = 255,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> str:
    """Check a semantic set and register it under ``name``.

    An image and its label image have the same relative path apart from the file extension.

    Args:
        images, labels: the folders; or a Hugging Face dataset (:mod:`.arrow`) with one column of images and
            one of label images, and "".
        classes: see :func:`class_names`.
        zero_is_other, ignore_label: see :class:`Labelling`.
        skip_bad_records: leave out and log pairs with a problem, instead of refusing the dataset.
        verify_images: ``decode`` reads both files whole, ``header`` compares their sizes, ``none`` only looks
            that both are there.

    Raises:
        DatasetError: something is not given or not there, or a pair can't be used; the message names them
            all.
    """
    together = not labels and is_arrow(images)
    if not together:
        require_paths(name, images=images, labels=labels)
    names = class_names(classes)
    labelling = Labelling(len(names), zero_is_other, ignore_label)
    arguments = (images, labels, tuple(names), labelling, skip_bad_records, verify_images)
    if is_registered(name, arguments):
        return name
    records, problems = _rows(images) if together else _pairs(images, labels)
    labels = labels or images
    if verify_images != "none":
        empty: list[str] = []
        with ThreadPoolExecutor() as pool:
            looked = pool.map(lambda r: look_at_pair(r, labelling, verify_images, empty), records)
            found = list(tqdm(looked, "checking labels", len(records), delay=1.0, leave=False))
        problems += [p for p in found if p is not None]
        records = [r for r, p in zip(records, found, strict=True) if p is None]
    settle(labels, problems, skip_bad_records)
    if verify_images == "decode" and records:
        tell_empty(labels, sorted(empty), len(records), labelling)
    if not records:
        raise DatasetError(f"{images}, {labels}: no usable pair of image and labels")
    for record in records:
        record["labelling"] = labelling
    return register(
        name,
        arguments,
        lambda: records,
        stuff_classes=names,
        ignore_label=IGNORED,
        image_root=images,
        sem_seg_root=labels,
        evaluator_type="sem_seg",
    )


def register_ade20k(name: str, split: str, root: str = "", verify_images: VerifyImages = "none") -> str:
    """ADE20K (150 classes) from the folder its authors distribute, ``ADEChallengeData2016`` with
    ``images/<split>`` and ``annotations/<split>``; 0 there is "other" and ignored.

    Args:
        split: ``training`` or ``validation``.
        root: the folder; by default below ``$DETECTRON2_DATASETS``, else ``datasets``.

    Raises:
        DatasetError: a folder is missing; else as :func:`register_semantic`.
    """
    base = Path(root or Path(os.environ.get("DETECTRON2_DATASETS", "datasets")) / "ADEChallengeData2016")
    folders = [base / part / split for part in ("images", "annotations")]
    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: no such folder; unpack ADEChallengeData2016.zip and set DETECTRON2_DATASETS to "
                f"the folder around it, or use configs/Custom/upernet_* with your own labels"
            )
    images, labels = map(str, folders)
    return register_semantic(name, images, labels, ADE20K_SEM_SEG_CATEGORIES, True, 255, False, verify_images)


def _stem(path: str) -> str:
    """The key by which an image and its labels are matched; file systems differ in how they compose
    letters."""
    return unicodedata.normalize("NFC", os.path.splitext(path)[0])


def _rows(place: str) -> tuple[list[dict[str, Any]], list[Problem]]:
    """A record for each row of a set, and the rows that lack one of their two pictures."""
    found = open_arrow(place)
    column = found.image_column(others=_LABEL_COLUMNS)
    pictures, labels = (found.pictures(c) for c in (column, found.label_image_column("", column)))
    records, problems = [], []
    for row in range(len(found)):
        if pictures[row] and labels[row]:
            record = {"file_name": pictures[row], "sem_seg_file_name": labels[row], "image_id": row}
            records.append(record)
        else:
            why = f"it has no {'label image' if pictures[row] else 'image'}"
            problems.append(Problem("image without labels", f"row {row} of {found.place}", why))
    return records, problems


def _pairs(images: str, labels: str) -> tuple[list[dict[str, Any]], list[Problem]]:
    """A record for each image with labels, and what has no partner."""
    found = image_folder(labels, _LABEL_ENDINGS)
    label_of: dict[str, str] = {}
    problems = []
    for i in range(len(found)):
        stem = _stem(found.paths[i])
        if stem in label_of:
            why = f"{label_of[stem]} has them as well: remove one of the two"
            problems.append(Problem("two label images", f"{found.path(i)} has labels of {stem}", why))
        label_of.setdefault(stem, found.path(i))
    records: dict[str, dict[str, Any]] = {}
    pictures = image_folder(images)
    for i in range(len(pictures)):
        stem = _stem(pictures.paths[i])
        if stem in records:
            why = f"{records[stem]['file_name']} is that image as well: remove one of the two"
            problems.append(Problem("two images", f"{pictures.path(i)} is image {stem}", why))
        elif stem in label_of:
            records[stem] = {
                "file_name": pictures.path(i),
                "sem_seg_file_name": label_of[stem],
                "image_id": stem,
            }
        else:
            why = f"no label image {stem}.png in {labels}"
            problems.append(Problem("image without labels", pictures.path(i), why))
    known = {_stem(pictures.paths[i]) for i in range(len(pictures))}
    lonely = sorted(label_of.keys() - known)
    problems += [
        Problem("labels without image", label_of[stem], f"no image {stem}.* in {images}") for stem in lonely
    ]
    return list(records.values()), problems


def tell_empty(labels: str, empty: list[str], total: int, labelling: Labelling) -> None:
    """Log the label images that contain no class.

    Raises:
        DatasetError: none of them holds one.
    """
    if len(empty) == total:
        zero = "0 (zero_is_other) or " if labelling.zero_is_other else ""
        raise DatasetError(
            f"{labels}: all pixels of all label images are ignored, since they are "
            f"{zero}{labelling.ignore_label} (ignore_label). Set zero_is_other or ignore_label of the "
            "dataset to match the files"
        )
    notes = Notes()
    for path in empty:
        notes.add("a label image whose pixels are all ignored: nothing can be learnt from it", path)
    notes.log(labels)


def look_at_pair(
    record: dict[str, Any], labelling: Labelling, verify: VerifyImages, empty: list[str]
) -> Problem | None:
    """The problem with a pair; if there is none, its ``width`` and ``height`` are put into the record, and
    its labels into ``empty`` if they contain no class."""
    path, labels = record["file_name"], record["sem_seg_file_name"]
    try:
        with open_image(path) as image:
            width, height = upright_size(image)
            if verify == "decode":
                decode(image)
    except BrokenImageError as error:
        return Problem("broken image", path, f"it can't be read ({error})")
    try:
        with open_image(labels) as image:
            size = image.size
    except BrokenImageError as error:
        return Problem("broken labels", labels, f"they can't be read ({error})")
    if size != (width, height):
        why = f"the labels are {size[0]}x{size[1]}, but the image is {width}x{height}"
        return Problem("wrong label size", labels, why)
    if verify == "decode":
        try:
            if (labelling.read(labels) == IGNORED).all():
                empty.append(labels)
        except DatasetError as error:
            return Problem("bad labels", labels, str(error).removeprefix(f"{labels}: "))
    record.update(width=width, height=height)
    return None
