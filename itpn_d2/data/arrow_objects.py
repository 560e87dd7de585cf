"""Objects of a Hugging Face dataset, checked like those of a json."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from detectron2.structures import BoxMode

from ..errors import DatasetError
from .arrow import open_arrow
from .arrow_set import ArrowSet
from .catalogs import is_registered, register_detections
from .coco_check import judge
from .find import AsItIs, ImageFinder
from .given import plain, read_box
from .json_checker import JsonChecker
from .picture_check import VerifyImages
from .problems import Problem, read_text
from .records import Record
from .values import BadValue

Corners = Literal["xywh", "xyxy"]
_OBJECTS = ("objects", "annotations")
# what the fields of an object are called, by their names in a json
_FIELDS = {
    "bbox": ("bbox", "bboxes", "box", "boxes"),
    "category_id": ("category", "category_id", "categories", "label", "labels"),
    "segmentation": ("segmentation", "segmentations"),
    "area": ("area", "areas"),
    "iscrowd": ("iscrowd", "is_crowd"),
}


class ArrowChecker(JsonChecker):
    """A :class:`.JsonChecker` for the rows of a dataset.

    Args:
        found: the set.
        image, objects: names of the columns; "" chooses them.
        classes: names of the classes in the order of their numbers; () for those of the set's features, or
            where categories are texts, these, sorted.
        box: whether a box is x, y, width, height, as COCO has it, or two corners; in pixels.

    Raises:
        DatasetError: there are no such columns, or no names of classes.
    """

    def __init__(self, found: ArrowSet, image: str, objects: str, classes: Sequence[str], box: Corners):
        self._place, self._box_mode = found.place, box
        self._badly: list[Problem] = []
        column = found.image_column(image)
        self._column = _objects_column(found, objects)
        images, annotations = self._read(found, column)
        names = list(classes) or _class_names(found.features[self._column])
        used = {a["category_id"] for a in annotations if isinstance(a.get("category_id"), str)}
        if not names and used:
            names = sorted(used)
        if not names:
            raise DatasetError(
                f"{found.place}: the names of its categories are unknown; set classes of the dataset to a "
                "list of names, or to a file with one name per line, in the order of their numbers"
            )
        if used:  # texts
            number = {name: i for i, name in enumerate(names)}
            for a in annotations:
                a["category_id"] = number.get(a["category_id"], a["category_id"])
        categories = [{"id": i, "name": n} for i, n in enumerate(names)]
        data = {"images": images, "annotations": annotations, "categories": categories}
        super().__init__(found.place, Path(), data)
        self.problems += self._badly

    def _read(self, found: ArrowSet, column: str) -> tuple[list[Record], list[Record]]:
        known = [n for n in ("image_id", "width", "height") if n in found.features]
        paths, images, annotations = found.pictures(column), [], []
        for number, row in enumerate(found.rows([*known, self._column])):
            image = {k: plain(row[k]) for k in known}
            image.update(id=image.get("image_id", number), file_name=paths[number])
            try:
                objects = _as_list(row[self._column])
            except BadValue as error:
                self._badly.append(Problem(error.kind, f"rows[{number}][{self._column!r}]", str(error)))
                continue
            images.append(image)
            for place, fields in enumerate(objects):
                where = f"rows[{number}][{self._column!r}][{place}]"
                try:
                    annotations.append({**self._fields(fields), "id": where, "image_id": image["id"]})
                except BadValue as error:
                    self._badly.append(Problem(error.kind, f"{where} on {image['file_name']}", str(error)))
        return images, annotations

    def _fields(self, given: Mapping[str, Any]) -> Record:
        found = {}
        for field, names in _FIELDS.items():
            name = next((n for n in names if n in given), None)
            if name is not None:
                found[field] = plain(given[name])
        if self._box_mode == "xyxy" and "bbox" in found:
            found["bbox"] = read_box(found["bbox"], BoxMode.XYXY_ABS)
        return found

    def _finder(self) -> ImageFinder:
        return AsItIs("")


def register_hf(
    name: str,
    place: str,
    split: str = "",
    subset: str = "",
    image: str = "",
    objects: str = "",
    classes: str | Sequence[str] = (),
    box: Corners = "xywh",
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> str:
    """Check a Hugging Face dataset with boxes and, if given, segmentations (polygons or RLE), and register it
    under ``name``.

    Args:
        place, split, subset: see :func:`.hf_images`.
        image: name of the column of images; "" chooses it.
        objects: name of the column with a list of objects, or with a list of each of their fields: ``bbox``,
            ``category``, and where given ``segmentation``, ``area``, ``iscrowd``; "" is ``objects``.
        classes: names in the order of their numbers, or a file with one per line, if the dataset has none.
        box: ``xywh`` (COCO) or ``xyxy`` (two corners), in pixels.
        skip_bad_records, verify_images: see :func:`.check_coco`.

    Raises:
        DatasetError: see :func:`.hf_images`, :class:`ArrowChecker` and :func:`.check_coco`.
    """
    if box not in ("xywh", "xyxy"):
        raise DatasetError(f"dataset {name!r}: box={box!r}: choose xywh or xyxy")
    found = open_arrow(place, split, subset)
    stamps = tuple((file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in found.files)
    names = classes if isinstance(classes, str) else tuple(classes)
    arguments = (place, split, subset, image, objects, names, box, skip_bad_records, verify_images, stamps)
    if is_registered(name, arguments):
        return name
    if isinstance(names, str):
        lines = read_text(Path(names)).splitlines() if names else []
        names = tuple(line.strip() for line in lines if line.strip())
    checker = ArrowChecker(found, image, objects, names, box)
    coco = judge(checker, skip_bad_records, verify_images).coco
    return register_detections(name, arguments, coco, found.place, "", ())


def _objects_column(found: ArrowSet, given: str) -> str:
    names = [given] if given else [n for n in _OBJECTS if n in found.features][:1]
    if not names or names[0] not in found.features:
        raise DatasetError(
            f"{found.place}: no column {given or 'objects'!r}; it has {', '.join(found.features)}. Set "
            f"objects=NAME of the dataset to the column with boxes and categories"
        )
    return names[0]


def _as_list(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a row, from a list of objects or from one list per field.

    Raises:
        BadValue: it is neither, or the lists have different lengths.
    """
    if value is None:
        return []
    if isinstance(value, list) and all(isinstance(v, Mapping) for v in value):
        return value
    if not isinstance(value, Mapping):
        raise BadValue(
            "bad objects", f"{str(value)[:60]} is neither a list of objects nor a list for each field"
        )
    known = {
        k: v for k, v in value.items() if any(k in names for names in _FIELDS.values()) and v is not None
    }
    wrong = [k for k, v in known.items() if not isinstance(v, list)]
    if wrong:
        raise BadValue("bad objects", f"{wrong[0]} is {str(known[wrong[0]])[:60]}, not a list")
    counts = {k: len(v) for k, v in known.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{n} of {k}" for k, n in counts.items())
        raise BadValue("bad objects", f"there are {said}: the lists of all fields must have the same length")
    return [dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True)]


def _class_names(feature: Any) -> list[str]:
    """The names in the feature of an object's category, however lists and objects are nested."""
    while not isinstance(feature, Mapping):
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        if inner is None:
            return []
        feature = inner
    for name in _FIELDS["category_id"]:
        kind = feature.get(name)
        while kind is not None and not hasattr(kind, "names"):
            kind = kind[0] if isinstance(kind, list) else getattr(kind, "feature", None)
        if kind is not None:
            return list(map(str, kind.names))
    return []
