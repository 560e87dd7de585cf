"""Checking a COCO panoptic json, its PNGs and its images before training starts, all problems at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DatasetError
from .decode import BrokenImageError, open_image
from .find import ImageFinder, what_name_is
from .json_checker import JsonChecker
from .labels import read_segment_colours, segment_ids
from .picture_check import VerifyImages
from .problems import Notes, Problem, read_json
from .records import CocoSet, Picture, required
from .values import BadValue, Identity, absent, flag, identity, shown, text, whole

_KEYS = ("images", "annotations", "categories")
_LARGEST_SEGMENT = 256**3  # ids are colours


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment of a PNG: its id there, its category, and whether it is a region of many objects."""

    id: int
    category: Identity
    crowd: bool


@dataclass(slots=True)
class Labels:
    """The segments of an image.

    Attributes:
        image: id.
        file_name: of the PNG, below its folder.
    """

    image: Identity
    file_name: str
    segments: list[Segment]


@dataclass
class PanopticSet:
    """Images with their segments; ``coco`` has categories (``isthing`` is known) and images."""

    coco: CocoSet
    labels: list[Labels]


def check_panoptic(
    json_path: str | Path,
    image_root: str | Path,
    label_root: str | Path,
    verify_images: VerifyImages = "decode",
) -> tuple[PanopticSet, list[Problem], Notes]:
    """The good records of a COCO panoptic json, what is wrong with the others, and what was decided.

    Args:
        verify_images: ``decode`` reads images and PNGs whole and compares their segments with the json's,
            ``header`` their sizes only, ``none`` only looks that they are there.

    Raises:
        DatasetError: the file is no panoptic json.
    """
    data = read_json(Path(json_path), _KEYS, "a COCO panoptic json")
    if not any(isinstance(a, dict) and "segments_info" in a for a in data["annotations"]):
        raise DatasetError(
            f"{json_path}: no annotation has segments_info; for a json of instances use a mask_rcnn config"
        )
    checker = _Checker(Path(json_path), Path(image_root), data)
    return checker.run_panoptic(Path(label_root), verify_images), checker.problems, checker.notes


class _Checker(JsonChecker):
    def run_panoptic(self, label_root: Path, verify: VerifyImages) -> PanopticSet:
        categories = []
        for category in self.categories():
            if category.isthing is None:
                why = "isthing is missing; set it to 1 for things and 0 for stuff"
                self.bad("isthing missing", f"category {category.name}", why)
            else:
                categories.append(category)
        pictures, ids = self.pictures(verify), {c.id for c in categories}
        candidates = self._labels(pictures, ids, ImageFinder(label_root))

        def look(labels: Labels) -> list[tuple[str, str]]:
            path = os.path.join(label_root, labels.file_name)
            return _png_problems(path, labels, pictures[labels.image], verify)

        with ThreadPoolExecutor() as pool:
            looked = pool.map(look, candidates)
            found = list(tqdm(looked, "checking segments", len(candidates), delay=1.0, leave=False))
        good = []
        for labels, problems in zip(candidates, found, strict=True):
            for kind, why in problems:
                self.bad(kind, f"annotation {labels.file_name}", why)
            if not problems:
                good.append(labels)
        labelled = {labels.image for labels in candidates}
        for picture in pictures.values():
            if picture.id not in labelled and not self.problems:
                self.notes.add("an image without an annotation, left out", picture.file_name)
        return PanopticSet(CocoSet(categories, [pictures[labels.image] for labels in good], []), good)

    def _labels(
        self, pictures: dict[Identity, Picture], categories: set[Identity], finder: ImageFinder
    ) -> list[Labels]:
        """The annotations that can be used, as far as the json tells."""
        known, seen = {"image": self._ids("images")}, set()
        good = []
        for number, record in enumerate(self.data["annotations"]):
            where = f"annotations[{number}]"
            try:
                fields = required(record, "image_id", "file_name", "segments_info")
                name = text(fields["file_name"], "file_name")
                where = f"annotation {name}"
                image = self._declared(fields["image_id"], "image", known)
                if image in seen:
                    raise BadValue("duplicate image_id", f"image_id {image} is used twice")
                seen.add(image)
                segments = read_segments(fields["segments_info"], categories)
                png = finder.find(name)
                if png is None:
                    why = f"no file {os.path.join(finder.root, name)}{what_name_is(name)}"
                    raise BadValue("missing PNG", why)
                if image in pictures:  # else the image itself is reported already
                    good.append(Labels(image, png, segments))
            except BadValue as error:
                self.bad(error.kind, where, str(error))
        return good


def read_segments(value: Any, categories: set[Identity]) -> list[Segment]:
    """``segments_info`` of an annotation.

    Raises:
        BadValue: it is no list of segments, an id is used twice, or a category is not one of ``categories``.
    """
    if not isinstance(value, list):
        raise BadValue("bad segments_info", f"segments_info is {shown(value)}, not a list of objects")
    found: dict[int, Segment] = {}
    for record in value:
        try:
            fields = required(record, "id", "category_id")
            number = whole(fields["id"], "segment id")
            if not 0 < number < _LARGEST_SEGMENT:
                raise BadValue(
                    "bad segment id",
                    f"segment id {number} is not a colour; ids are 1 to {_LARGEST_SEGMENT - 1}",
                )
            category = identity(fields["category_id"], "category_id")
            crowd = not absent(fields.get("iscrowd")) and flag(fields["iscrowd"], "iscrowd")
        except BadValue as error:
            kind = "bad segments_info" if error.kind in ("missing key", "no object") else error.kind
            raise BadValue(kind, f"segment {str(record)[:60]}: {error}") from error
        if number in found:
            raise BadValue("duplicate segment", f"segment id {number} is used twice")
        if category not in categories:
            why = f"category_id {shown(fields['category_id'])} is not declared, or unusable"
            raise BadValue("unknown category", why)
        found[number] = Segment(number, category, crowd)
    return list(found.values())


def _png_problems(path: str, labels: Labels, picture: Picture, verify: VerifyImages) -> list[tuple[str, str]]:
    if verify == "none":
        return []
    try:
        with open_image(path) as png:
            size = png.size
        if size != (picture.width, picture.height):
            why = f"the json says {picture.width}x{picture.height}, but the PNG is {size[0]}x{size[1]}"
            return [("wrong PNG size", why)]
        if verify == "header":
            return []
        present = set(np.unique(segment_ids(read_segment_colours(path))).tolist()) - {0}
    except (BrokenImageError, DatasetError) as error:
        return [("broken PNG", str(error))]
    declared = {s.id for s in labels.segments}
    found = [
        ("segment without pixels", f"segment {i} is in the json only") for i in sorted(declared - present)
    ]
    found += [("undeclared segment", f"segment {i} is in the PNG only") for i in sorted(present - declared)]
    return found
