"""Panoptic data of one's own: a COCO panoptic json, its folder of PNGs, a folder of images."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import DatasetError
from .coco_check import JsonChecker, VerifyImages
from .decode import BrokenImageError, open_image
from .labels import IGNORED, read_segment_colours, segment_ids
from .problems import Problem, read_json, settle
from .registry import cleaned_json, is_registered, register, require_paths

_KEYS = ("images", "annotations", "categories")
THINGS = "things"  # class 0 of the semantic branch: all things together (Panoptic FPN, section 4)


def check_panoptic(
    json_path: str | Path,
    image_root: str | Path,
    label_root: str | Path,
    verify_images: VerifyImages = "decode",
) -> tuple[dict[str, Any], list[Problem]]:
    """The good records of a COCO panoptic json, and what is wrong with the others.

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
    return checker.run_panoptic(Path(label_root), verify_images), checker.problems


class _Checker(JsonChecker):
    def run_panoptic(self, label_root: Path, verify: VerifyImages) -> dict[str, Any]:
        categories = []
        for category in self.categories():
            if category.get("isthing") in (0, 1):
                categories.append(category)
            else:
                why = f"isthing is {category.get('isthing')!r}; 1 for things, 0 for stuff"
                self.bad("isthing missing", f"category {category['name']}", why)
        known = {i.get("id") for i in self.data["images"] if isinstance(i, dict)}
        images, ids = self.images(verify), {c["id"] for c in categories}
        given = self.unique(
            self.data["annotations"], "annotations", ("image_id", "file_name", "segments_info")
        )
        candidates = []
        for annotation in given:
            if annotation["image_id"] in images:
                candidates.append(annotation)
            elif annotation["image_id"] not in known:
                why = f"image_id {annotation['image_id']} is not declared"
                self.bad("unknown image", f"annotation {annotation['file_name']}", why)

        def look(annotation: dict[str, Any]) -> list[tuple[str, str]]:
            path = label_root / annotation["file_name"]
            found = _segment_problems(annotation["segments_info"], ids)
            return found or _png_problems(path, annotation, images[annotation["image_id"]], verify)

        with ThreadPoolExecutor() as pool:
            looked = pool.map(look, candidates)
            found = list(tqdm(looked, "checking segments", len(candidates), delay=1.0, leave=False))
        good = []
        for annotation, problems in zip(candidates, found, strict=True):
            for kind, why in problems:
                self.bad(kind, f"annotation {annotation['file_name']}", why)
            if not problems:
                good.append(annotation)
        return {
            **self.data,
            "categories": categories,
            "images": [images[a["image_id"]] for a in good],
            "annotations": good,
        }


def _segment_problems(segments: Any, categories: set[Any]) -> list[tuple[str, str]]:
    if not isinstance(segments, list) or not all(
        isinstance(s, dict) and {"id", "category_id"} <= s.keys() for s in segments
    ):
        return [("bad segments_info", "it is no list of objects with id and category_id")]
    ids = [s["id"] for s in segments]
    twice = sorted({i for i in ids if ids.count(i) > 1})
    found = [("duplicate segment", f"id {i} is used twice") for i in twice]
    unknown = sorted({str(s["category_id"]) for s in segments if s["category_id"] not in categories})
    found += [("unknown category", f"category_id {c} is not declared, or unusable") for c in unknown]
    return found


def _png_problems(
    path: Path, annotation: dict[str, Any], image: dict[str, Any], verify: VerifyImages
) -> list[tuple[str, str]]:
    if not path.is_file():
        return [("missing PNG", f"no file {path}")]
    if verify == "none":
        return []
    try:
        with open_image(str(path)) as png:
            size = png.size
        if size != (image["width"], image["height"]):
            why = f"the json says {image['width']}x{image['height']}, the PNG is {size[0]}x{size[1]}"
            return [("wrong PNG size", why)]
        if verify == "header":
            return []
        present = set(np.unique(segment_ids(read_segment_colours(str(path)))).tolist()) - {0}
    except (BrokenImageError, DatasetError) as error:
        return [("broken PNG", str(error))]
    declared = {s["id"] for s in annotation["segments_info"]}
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
    data, problems = check_panoptic(json, images, labels, verify_images)
    settle(json, problems, skip_bad_records)
    things = _sorted_categories(data["categories"], 1)
    stuff = _sorted_categories(data["categories"], 0)
    if not data["annotations"] or not things or not stuff:
        lacking = "annotation" if not data["annotations"] else "thing" if not things else "stuff"
        raise DatasetError(
            f"{json}: no usable {lacking} in it" + ("; a semantic set goes to upernet" if not things else "")
        )
    thing_ids = {c["id"]: i for i, c in enumerate(things)}
    stuff_ids = {c["id"]: i for i, c in enumerate(stuff, 1)}
    by_id = {i["id"]: i for i in data["images"]}
    records = [
        _record(a, by_id[a["image_id"]], images, labels, thing_ids, stuff_ids) for a in data["annotations"]
    ]
    _require_distinct(json, records)
    return register(
        name,
        arguments,
        lambda: records,
        thing_classes=[c["name"] for c in things],
        stuff_classes=[THINGS, *(c["name"] for c in stuff)],
        thing_dataset_id_to_contiguous_id=thing_ids,
        stuff_dataset_id_to_contiguous_id=stuff_ids,
        panoptic_json=cleaned_json(Path(json), data) if problems else json,
        panoptic_root=labels,
        image_root=images,
        ignore_label=IGNORED,
        evaluator_type="coco_panoptic_seg",
    )


def _sorted_categories(categories: Sequence[dict[str, Any]], isthing: int) -> list[dict[str, Any]]:
    return sorted((c for c in categories if c["isthing"] == isthing), key=lambda c: c["id"])


def _record(
    annotation: dict[str, Any],
    image: dict[str, Any],
    images: str,
    labels: str,
    thing_ids: dict[Any, int],
    stuff_ids: dict[Any, int],
) -> dict[str, Any]:
    """``segments`` with contiguous classes: of things their own, of stuff that of the semantic branch."""
    segments = []
    for segment in annotation["segments_info"]:
        isthing = segment["category_id"] in thing_ids
        number = (thing_ids if isthing else stuff_ids)[segment["category_id"]]
        crowd = int(segment.get("iscrowd", 0))
        segments.append({"id": segment["id"], "category_id": number, "isthing": isthing, "iscrowd": crowd})
    return {
        "file_name": os.path.join(images, image["file_name"]),
        "image_id": annotation["image_id"],
        "width": image["width"],
        "height": image["height"],
        "pan_seg_file_name": os.path.join(labels, annotation["file_name"]),
        "segments": segments,
        # what sampling looks at: is there a thing, and of which class
        "annotations": [
            {"category_id": s["category_id"], "iscrowd": s["iscrowd"]} for s in segments if s["isthing"]
        ],
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
