"""Checking a COCO json and its images before training starts, all problems at once."""

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pycocotools.mask as mask_util
from PIL import Image
from tqdm import tqdm

from ..errors import DatasetError
from .problems import Problem, read_json, settle, summary

VerifyImages = Literal["decode", "header", "none"]
_TOLERANCE = 1.0  # pixels a box may stand out of its image: exporters round
_ORIENTATION = 0x0112  # EXIF


@dataclass
class CheckedCoco:
    """The good records of a COCO json, and what was wrong with the others."""

    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    completed: int = 0  # annotations that lacked what COCO's evaluation wants: see _complete

    def counts(self) -> Counter[str]:
        return Counter(p.kind for p in self.problems)

    def summary(self) -> str:
        return summary(self.problems)

    def keypoints(self) -> list[str]:
        """Names of the keypoints, the same for all categories that have some; empty without any."""
        names = [c["keypoints"] for c in self.data["categories"] if c.get("keypoints")]
        return list(names[0]) if names else []


def check_coco(
    json_path: str | Path,
    image_root: str | Path,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> CheckedCoco:
    """Read and check a COCO json with boxes and, where given, segmentations.

    Args:
        skip_bad_records: drop bad records (an image with its annotations) and log their counts, instead of
            refusing.
        verify_images: ``decode`` reads every image whole, ``header`` its size only, ``none`` only looks that
            it is there.

    Raises:
        DatasetError: the file is no COCO json, holds nothing usable, or holds bad records; the message names
        them.
    """
    data = read_json(Path(json_path), ("images", "annotations", "categories"), "a COCO json")
    checker = JsonChecker(Path(json_path), Path(image_root), data)
    checked = CheckedCoco(checker.run(verify_images), checker.problems)
    settle(json_path, checked.problems, skip_bad_records)
    names = checked.keypoints()
    checked.completed = sum(_complete(annotation, names) for annotation in checked.data["annotations"])
    if not checked.data["images"] or not checked.data["annotations"]:
        raise DatasetError(
            f"{json_path}: no usable {'image' if not checked.data['images'] else 'annotation'} in it"
        )
    return checked


def _complete(annotation: dict[str, Any], keypoints: list[str]) -> bool:
    """Add ``iscrowd``, ``area`` and, where the set has keypoints, ``keypoints`` and their number: the format
    lets them be absent, pycocotools does not. Whether something was added."""
    before = len(annotation)
    annotation.setdefault("iscrowd", 0)
    if "area" not in annotation:
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    if keypoints:
        if annotation.get("keypoints") == []:
            del annotation["keypoints"]
            before -= 1
        annotation.setdefault("keypoints", [0] * 3 * len(keypoints))
        annotation.setdefault("num_keypoints", sum(v > 0 for v in annotation["keypoints"][2::3]))
    return len(annotation) > before


class JsonChecker:
    """Collects the problems of a json with images, annotations and categories, and keeps its good records."""

    def __init__(self, path: Path, root: Path, data: dict[str, Any]):
        self.path, self.root, self.data = path, root, data
        self.problems: list[Problem] = []

    def bad(self, kind: str, where: str, why: str) -> None:
        self.problems.append(Problem(kind, where, why))

    def run(self, verify: VerifyImages) -> dict[str, Any]:
        categories = self._without_other_keypoints(self.categories())
        images = self.images(verify)
        annotations = self._annotations(images, {c["id"] for c in categories})
        return {
            **self.data,
            "categories": categories,
            "images": list(images.values()),
            "annotations": annotations,
        }

    def unique(self, records: list[Any], name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
        """Those with all ``keys`` and a first key of their own."""
        seen: set[Any] = set()
        good = []
        for number, record in enumerate(records):
            where = f"{name}[{number}]"
            missing = [k for k in keys if not isinstance(record, dict) or k not in record]
            if missing:
                self.bad("missing key", where, f"no {', '.join(missing)}")
            elif record[keys[0]] in seen:
                self.bad(f"duplicate {keys[0]}", where, f"{keys[0]} {record[keys[0]]} is used twice")
            else:
                seen.add(record[keys[0]])
                good.append(record)
        return good

    def categories(self) -> list[dict[str, Any]]:
        return self.unique(self.data["categories"], "categories", ("id", "name"))

    def _without_other_keypoints(self, categories: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A model has the same keypoints for all classes."""
        first: list[str] | None = None
        for category in categories:
            names = category.get("keypoints")
            first = first or names
            if names and names != first:
                why = f"keypoints {names} are not the {first} of the categories before it"
                self.bad("other keypoints", f"category {category['name']}", why)
                return [c for c in categories if c.get("keypoints") in (None, [], first)]
        return categories

    def images(self, verify: VerifyImages) -> dict[Any, dict[str, Any]]:
        """The good ones by their id."""
        images = self.unique(self.data["images"], "images", ("id", "file_name", "width", "height"))

        def look(image: dict[str, Any]) -> tuple[str, str] | None:
            return image_problem(self.root / image["file_name"], image, verify)

        with ThreadPoolExecutor() as pool:
            found = tqdm(pool.map(look, images), "checking images", len(images), delay=1.0, leave=False)
            good = {}
            for image, problem in zip(images, found, strict=True):
                if problem is None:
                    good[image["id"]] = image
                else:
                    self.bad(problem[0], f"image id {image['id']} ({image['file_name']})", problem[1])
        return good

    def _annotations(self, images: dict[Any, dict[str, Any]], categories: set[Any]) -> list[dict[str, Any]]:
        known = {i.get("id") for i in self.data["images"] if isinstance(i, dict)}
        keys = ("id", "image_id", "category_id", "bbox")
        points = {c.get("id"): c.get("keypoints") for c in self.data["categories"] if isinstance(c, dict)}
        good = []
        for annotation in self.unique(self.data["annotations"], "annotations", keys):
            where = f"annotation id {annotation['id']}"
            image = images.get(annotation["image_id"])
            if image is None:
                if annotation["image_id"] not in known:  # else the image itself is reported already
                    self.bad("unknown image", where, f"image_id {annotation['image_id']} is not declared")
                continue
            where = f"{where} on {image['file_name']}"
            if annotation["category_id"] not in categories:
                self.bad(
                    "unknown category", where, f"category_id {annotation['category_id']} is not declared"
                )
                continue
            problem = (
                _box_problem(annotation["bbox"], image)
                or _mask_problem(annotation.get("segmentation"), image)
                or _keypoint_problem(annotation.get("keypoints"), points[annotation["category_id"]])
            )
            if problem is None:
                good.append(annotation)
            else:
                self.bad(problem[0], where, problem[1])
        return good


def image_problem(path: Path, image: dict[str, Any], verify: VerifyImages) -> tuple[str, str] | None:
    """Kind and reason where the file of a json's ``image`` can't be used; see :func:`check_coco`."""
    if not path.is_file():
        return "missing image", f"no file {path}"
    if verify == "none":
        return None
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # a PNG is read to its end for this, which a look at the header is meant to avoid
            if (verify == "decode" or picture.format != "PNG") and picture.getexif().get(
                _ORIENTATION, 1
            ) >= 5:
                width, height = height, width  # stored on its side; read upright
            if verify == "decode":
                picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return "broken image", f"{path} can't be read ({error})"
    if (width, height) != (image["width"], image["height"]):
        return (
            "wrong image size",
            f"the json says {image['width']}x{image['height']}, the file is {width}x{height}",
        )
    return None


def _box_problem(box: Any, image: dict[str, Any]) -> tuple[str, str] | None:
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)
    if not numbers or not all(math.isfinite(v) for v in box):
        return "bad box", f"bbox {box} is not four finite numbers x, y, width, height"
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return "bad box", f"bbox {box} has no area"
    beyond = max(-x, -y, x + w - image["width"], y + h - image["height"])
    if beyond > _TOLERANCE:
        return (
            "box outside image",
            f"bbox {box} leaves the {image['width']}x{image['height']} image by {beyond:g} px",
        )
    return None


def _mask_problem(mask: Any, image: dict[str, Any]) -> tuple[str, str] | None:
    if mask is None or mask == []:
        return None
    if isinstance(mask, dict):
        size = [image["height"], image["width"]]
        if mask.get("size") != size:
            return (
                "RLE of the wrong size",
                f"its size is {mask.get('size')}, the image's (height, width) is {size}",
            )
        try:
            rle = mask_util.frPyObjects(mask, *size) if isinstance(mask.get("counts"), list) else mask
            area = int(mask_util.area(rle))
        except Exception as error:  # pycocotools raises what it pleases on a bad string
            return "bad RLE", f"it can't be decoded ({type(error).__name__}: {error})"
        return None if area > 0 else ("bad RLE", "it covers no pixel")
    if not isinstance(mask, list):
        return "bad segmentation", f"a {type(mask).__name__} is neither polygons nor RLE"
    for polygon in mask:
        if not isinstance(polygon, list) or len(polygon) < 6:
            return "polygon under 3 points", f"polygon {str(polygon)[:60]}"
        if len(polygon) % 2 or not all(isinstance(v, int | float) and math.isfinite(v) for v in polygon):
            return "bad polygon", f"polygon {str(polygon)[:60]} is not pairs of finite numbers"
    return None


def _keypoint_problem(found: Any, names: Any) -> tuple[str, str] | None:
    if not found or not names:
        return None
    count = len(names)
    numbers = isinstance(found, list) and all(isinstance(v, int | float) and math.isfinite(v) for v in found)
    if not numbers or len(found) != 3 * count:
        return (
            "bad keypoints",
            f"{str(found)[:60]}: its category has {count} keypoints, of three numbers each",
        )
    if not set(found[2::3]) <= {0, 1, 2}:
        return (
            "bad keypoints",
            f"{str(found)[:60]}: every third number is 0 (absent), 1 (hidden) or 2 (visible)",
        )
    return None
