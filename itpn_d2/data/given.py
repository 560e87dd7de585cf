"""The records that a registered function returns, checked like those of a json."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..errors import DatasetError
from .find import AsItIs, ImageFinder
from .json_checker import JsonChecker
from .problems import Problem
from .records import Annotation, Category, CocoSet, Picture, Record, as_dicts
from .values import BadValue, absent, identity, real, shown

_MODES = "detectron2.structures.BoxMode.XYXY_ABS or XYWH_ABS"
# the keys that Detectron2 and this project read
_OF_RECORDS = {"file_name", "height", "width", "image_id", "annotations", "sem_seg_file_name"}
_OF_RECORDS |= {"pan_seg_file_name", "segments_info"}
_OF_ANNOTATIONS = {"bbox", "bbox_mode", "category_id", "segmentation", "keypoints", "iscrowd"}
_OF_ANNOTATIONS |= {"num_keypoints", "area", "id", "image_id"}


class GivenChecker(JsonChecker):
    """A :class:`.JsonChecker` of Detectron2's dataset dicts. Classes are the names of the metadata, by their
    number; boxes of both modes are read, and arrays where a json has lists.

    Args:
        name: of the set, for messages.
        records: what the function has returned.
        classes, keypoints: names; without those of keypoints, keypoints are left out.
        root: the folder below which files are looked for that are not where a record says; "" is none.

    Attributes:
        extended: whether a record or an annotation has keys beyond Detectron2's.
        repeated: whether a record is there several times; it is trained as often.

    Raises:
        DatasetError: ``records`` is no list of dicts, or is empty.
    """

    def __init__(
        self, name: str, records: Any, classes: Sequence[str], keypoints: Sequence[str], root: str = ""
    ):
        place, records = f"dataset {name!r}", require_records(name, records)
        self._folder = root
        self._numbered = all(isinstance(r, Mapping) and absent(r.get("image_id")) for r in records)
        self._records: list[tuple[Any, Any]] = []  # each with the id that its image has here
        self._originals: dict[int, Mapping[str, Any]] = {}
        self.extended = self.repeated = False
        self._found: list[Problem] = []
        images: list[Any] = []
        annotations: list[Record] = []
        seen: dict[Any, tuple[Record, list[Record]]] = {}
        for number, record in enumerate(records):
            image, objects = self._read(number, record)
            key = (image.get("id"), image.get("file_name")) if isinstance(image, dict) else number
            if image is None:
                continue
            self._records.append((record, None if not isinstance(image, dict) else image.get("id")))
            if key in seen and _same(seen[key], (image, objects)):
                self.repeated = True
                continue
            seen[key] = image, objects
            images.append(image)
            annotations += objects
        names = [str(n) for n in classes]
        categories: list[Record] = [{"id": i, "name": n} for i, n in enumerate(names)]
        for category in categories if keypoints else ():
            category["keypoints"] = [str(k) for k in keypoints]
        data = {"images": images, "annotations": annotations, "categories": categories}
        super().__init__(Path(place), Path(root), data)
        self.problems += self._found
        if self._numbered:
            self.notes.add("a record without image_id: images are numbered from 0", place, quiet=True)

    def _read(self, number: int, record: Any) -> tuple[Any, list[Record]]:
        if not isinstance(record, Mapping):
            return plain(record), []
        self.extended |= not set(record) <= _OF_RECORDS
        image = {k: plain(record.get(k)) for k in ("file_name", "width", "height")}
        file = str(image["file_name"]) if isinstance(image["file_name"], Path) else image["file_name"]
        if self._folder and isinstance(file, str):
            file = file.removeprefix(os.path.join(self._folder, ""))
        image["file_name"] = file
        image["id"] = number if self._numbered else plain(record.get("image_id"))
        given = record.get("annotations")
        if given is not None and (not isinstance(given, Sequence) or isinstance(given, str)):
            why = f"annotations is {shown(given)}, not a list"
            self._found.append(Problem("bad annotations", f"records[{number}]", why))
            return None, []
        objects = []
        for place, annotation in enumerate(given or ()):
            where = f"records[{number}]['annotations'][{place}]"
            try:
                objects.append({**_annotation(annotation), "id": where, "image_id": image["id"]})
            except BadValue as error:
                self._found.append(Problem(error.kind, f"{where} on {image['file_name']}", str(error)))
                continue
            self.extended |= not set(annotation) <= _OF_ANNOTATIONS
        return image, objects

    def _annotation(
        self, fields: Any, where: str, picture: Picture, category: Category, keypoints: int
    ) -> Annotation:
        found = super()._annotation(fields, where, picture, category, keypoints)
        self._originals[id(found)] = fields["original"]
        return found

    def _finder(self) -> ImageFinder:
        return ImageFinder(self._folder) if self._folder else AsItIs("")

    def hints(self) -> list[str]:
        """What problems have in common; also class numbers that seem to count from 1."""
        ids = [a.get("category_id") for a in self.data["annotations"]]
        count = len(self.data["categories"])
        if ids and all(isinstance(i, int) for i in ids) and min(ids) >= 1 and max(ids) == count:
            return [
                *super().hints(),
                f"category_id is an index into thing_classes and counts from 0 (0 to {count - 1}), but these "
                f"ids start at {min(ids)}: subtract 1 from each",
            ]
        return super().hints()

    def dicts(self, coco: CocoSet, numbers: Mapping[Any, int]) -> list[Record]:
        """The good ones as Detectron2 takes them, in the order of the function, with whatever other keys they
        have; images have their ``numbers``."""
        made = {p.id: d for p, d in zip(coco.pictures, as_dicts(coco, self._folder), strict=True)}
        of_image: dict[Any, list[Annotation]] = {p.id: [] for p in coco.pictures}
        for annotation in coco.annotations:
            of_image[annotation.image].append(annotation)
        whole: dict[Any, Record] = {}
        for key, entry in made.items():
            if coco.annotated:
                pairs = zip(of_image[key], entry["annotations"], strict=True)
                entry["annotations"] = [{**self._originals[id(a)], **new} for a, new in pairs]
            whole[key] = {**entry, "image_id": numbers[key]}
        return [{**record, **whole[key]} for record, key in self._keyed() if key in whole]

    def _keyed(self) -> list[tuple[Mapping[str, Any], Any]]:
        found = []
        for record, key in self._records:
            with suppress(BadValue):
                found.append((record, identity(key, "image_id")))
        return found


def require_records(name: str, records: Any) -> Sequence[Any]:
    """
    Raises:
        DatasetError: it is not a list of dicts, or it is empty.
    """
    if not isinstance(records, Sequence) or isinstance(records, str | bytes):
        raise DatasetError(
            f"dataset {name!r}: its function returns a {type(records).__name__}; Detectron2 expects a "
            "list of dicts"
        )
    if not records:
        raise DatasetError(f"dataset {name!r}: its function returns an empty list: check the paths it reads")
    return records


def plain(value: Any) -> Any:
    """Arrays, tuples and bytes as a json would contain them."""
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value


def _same(one: tuple[Any, list[Record]], other: tuple[Any, list[Record]]) -> bool:
    """Whether two records have the same content."""
    left, right = (
        [{k: v for k, v in a.items() if k not in ("id", "original")} for a in e[1]] for e in (one, other)
    )
    return one[0] == other[0] and left == right


def _annotation(given: Any) -> Record:
    """An annotation of Detectron2's as one of a json.

    Raises:
        BadValue: it is no dict, or has a box of a mode that can't be read.
    """
    if not isinstance(given, Mapping):
        raise BadValue("no object", f"{shown(given)} is not a dict with bbox, bbox_mode, category_id")
    fields = {k: plain(given[k]) for k in _OF_ANNOTATIONS - {"area", "bbox_mode"} if k in given}
    if "bbox" in fields:
        fields["bbox"] = read_box(fields["bbox"], given.get("bbox_mode"))
    points = fields.get("keypoints")
    if isinstance(points, list):
        with suppress(BadValue):  # reported later, as for any json
            fields["keypoints"] = [
                v if i % 3 == 2 else real(v, "keypoints") - 0.5 for i, v in enumerate(points)
            ]
    return {**fields, "original": given}


def read_box(value: Any, mode: Any) -> Any:
    """A box of a mode of Detectron2's as x, y, width, height; what is no box, as it is.

    Raises:
        BadValue: the mode can't be read, or the corners have no area between them.
    """
    if absent(mode):
        raise BadValue("missing key", f"no bbox_mode: {_MODES}")
    try:
        kind = BoxMode(mode)
    except ValueError as error:
        raise BadValue("bad bbox_mode", f"bbox_mode is {shown(mode)}: {_MODES}") from error
    if kind not in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS):
        raise BadValue(
            "bad bbox_mode", f"bbox_mode is {kind.name}, which is not supported: {_MODES}, in pixels"
        )
    if kind == BoxMode.XYWH_ABS or not isinstance(value, list) or len(value) != 4:
        return value
    try:
        x1, y1, x2, y2 = (real(v, "box") for v in value)
    except BadValue:
        return value
    if x2 <= x1 or y2 <= y1:
        raise BadValue("bad box", f"bbox {value} (XYXY_ABS) has no area: its corners are x1, y1, x2, y2")
    return [x1, y1, x2 - x1, y2 - y1]
