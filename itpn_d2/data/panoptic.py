"""Custom panoptic data: a COCO panoptic json, its folder of PNGs, a folder of images."""

import json as json_format
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .catalogs import is_registered, own_json, register, require_paths
from .labels import IGNORED
from .panoptic_check import PanopticSet, check_panoptic
from .picture_check import VerifyImages
from .problems import settle
from .records import Category
from .values import Identity

THINGS = "things"  # class 0 of the semantic branch: all things together (Panoptic FPN, section 4)


def register_panoptic(
    name: str,
    json: str,
    images: str,
    labels: str,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> str:
    """Check a panoptic dataset and register it under ``name``; classes come from the json.

    Instances are the segments of things, so that they do not overlap (Detectron2's Panoptic FPN takes
    polygons from a second json instead). Semantic class 0 is all things together, then comes the stuff.

    Args:
        json, images, labels: the COCO panoptic json, the folder of the images, and that of its PNGs.
        skip_bad_records, verify_images: see :func:`check_panoptic` and :func:`.check_coco`.

    Raises:
        DatasetError: a path is not given or does not exist, or records can't be used; the message names them.
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
            f"{json}: no usable {lacking} in it"
            + ("; for a semantic dataset use an upernet config" if not things else "")
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
