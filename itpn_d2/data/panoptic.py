"""Panoptic data of one's own: a COCO panoptic json, its folder of PNGs, a folder of images."""

import json as json_format
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DatasetError
from .coco_check import JsonChecker, VerifyImages
from .decode import BrokenImageError, open_image
from .find import ImageFinder, what_name_is
from .labels import IGNORED, read_segment_colours, segment_ids
from .problems import Notes, Problem, read_json, settle
from .records import Category, CocoSet, Picture, required
from .registry import is_registered, own_json, register, require_paths
from .values import BadValue, Identity, absent, flag, identity, shown, text, whole

_KEYS = ("images", "annotations", "categories")
_LARGEST_SEGMENT = 256**3  # ids are colours
THINGS = "things"  # class 0 of the semantic branch: all things together (Panoptic FPN, section 4)


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
            f"{json_path}: no annotation has segments_info; a json of instances goes to a mask_rcnn config"
        )
    checker = _Checker(Path(json_path), Path(image_root), data)
    return checker.run_panoptic(Path(label_root), verify_images), checker.problems, checker.notes


class _Checker(JsonChecker):
    def run_panoptic(self, label_root: Path, verify: VerifyImages) -> PanopticSet:
        categories = []
        for category in self.categories():
            if category.isthing is None:
                why = "isthing is absent; it is 1 for things, 0 for stuff"
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
                    "bad segment id", f"segment id {number} is no colour: 1 to {_LARGEST_SEGMENT - 1}"
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
            why = f"the json says {picture.width}x{picture.height}, the PNG is {size[0]}x{size[1]}"
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


def register_panoptic(
    name: str,
    json: str,
    images: str,
    labels: str,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> str:
    """Check a panoptic set and register it under ``name``; classes come from the json.

    Instances are the segments of things, so that they do not overlap (Detectron2's Panoptic FPN takes
    polygons from a second json instead). Semantic class 0 is all things together, then comes the stuff.

    Args:
        json, images, labels: the COCO panoptic json, the folder of the images, and that of its PNGs.
        skip_bad_records, verify_images: see :func:`check_panoptic` and :func:`.check_coco`.

    Raises:
        DatasetError: something is not given or not there, or records can't be used; the message names them.
    """
    require_paths(name, json=json, images=images, labels=labels)
    arguments = (json, images, labels, skip_bad_records, verify_images, os.path.getmtime(json))
    if is_registered(name, arguments):
        return name
    found, problems, notes = check_panoptic(json, images, labels, verify_images)
    settle(json, problems, skip_bad_records)
    notes.log(json)
    categories, numbers = found.coco.categories, found.coco.numbers
    things = [c for c in categories if c.isthing]
    stuff = [c for c in categories if not c.isthing]
    if not found.labels or not things or not stuff:
        lacking = "annotation" if not found.labels else "thing" if not things else "stuff"
        raise DatasetError(
            f"{json}: no usable {lacking} in it" + ("; a semantic set goes to upernet" if not things else "")
        )
    thing_ids = {c.id: i for i, c in enumerate(things)}
    stuff_ids = {c.id: i for i, c in enumerate(stuff, 1)}
    records = _records(found, images, labels, thing_ids, stuff_ids)
    _require_distinct(json, records)
    return register(
        name,
        arguments,
        lambda: records,
        thing_classes=[c.name for c in things],
        stuff_classes=[THINGS, *(c.name for c in stuff)],
        thing_dataset_id_to_contiguous_id={numbers.categories[c]: i for c, i in thing_ids.items()},
        stuff_dataset_id_to_contiguous_id={numbers.categories[c]: i for c, i in stuff_ids.items()},
        image_ids=numbers.image_ids,
        category_ids=numbers.category_ids,
        panoptic_json=own_json(Path(json), _own(found)),
        panoptic_root=labels,
        image_root=images,
        ignore_label=IGNORED,
        evaluator_type="coco_panoptic_seg",
    )


def _records(
    found: PanopticSet,
    images: str,
    labels: str,
    thing_ids: dict[Identity, int],
    stuff_ids: dict[Identity, int],
) -> list[dict[str, Any]]:
    """``segments`` with contiguous classes: of things their own, of stuff that of the semantic branch."""
    by_id = {p.id: p for p in found.coco.pictures}
    records = []
    for entry in found.labels:
        segments = []
        for segment in entry.segments:
            isthing = segment.category in thing_ids
            number = (thing_ids if isthing else stuff_ids)[segment.category]
            crowd = int(segment.crowd)
            segments.append({"id": segment.id, "category_id": number, "isthing": isthing, "iscrowd": crowd})
        picture = by_id[entry.image]
        records.append(
            {
                "file_name": os.path.join(images, picture.file_name),
                "image_id": found.coco.numbers.images[picture.id],
                "width": picture.width,
                "height": picture.height,
                "pan_seg_file_name": os.path.join(labels, entry.file_name),
                "segments": segments,
                # what sampling looks at: is there a thing, and of which class
                "annotations": [
                    {"category_id": s["category_id"], "iscrowd": s["iscrowd"]}
                    for s in segments
                    if s["isthing"]
                ],
            }
        )
    return records


def _own(found: PanopticSet) -> str:
    """The set as a COCO panoptic json for evaluation."""
    numbers = found.coco.numbers
    by_id = {p.id: p for p in found.coco.pictures}
    return json_format.dumps(
        {
            "images": [
                {"id": numbers.images[p.id], "file_name": p.file_name, "width": p.width, "height": p.height}
                for p in found.coco.pictures
            ],
            "annotations": [
                {
                    "image_id": numbers.images[by_id[entry.image].id],
                    "file_name": entry.file_name,
                    "segments_info": [
                        {
                            "id": s.id,
                            "category_id": numbers.categories[s.category],
                            "iscrowd": int(s.crowd),
                        }
                        for s in entry.segments
                    ],
                }
                for entry in found.labels
            ],
            "categories": [_category(c, numbers.categories[c.id]) for c in found.coco.categories],
        }
    )


def _category(category: Category, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": category.name,
        "supercategory": category.supercategory,
        "isthing": int(bool(category.isthing)),
    }


def _require_distinct(json: str, records: Sequence[dict[str, Any]]) -> None:
    """Detectron2's evaluator writes a prediction under the last part of its image's name."""
    seen: dict[str, str] = {}
    for record in records:
        stem = Path(record["file_name"]).stem
        if stem in seen:
            raise DatasetError(
                f"{json}: {seen[stem]} and {record['file_name']} have the same name; rename one of them"
            )
        seen[stem] = record["file_name"]
