"""Checking a COCO json and its images before training starts, all problems at once."""

import json
import logging
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import pycocotools.mask as mask_util
from PIL import Image
from tqdm import tqdm

from .errors import DatasetError
from .rle import run_lengths

logger = logging.getLogger(__name__)
VerifyImages = Literal["decode", "header", "none"]
_TOLERANCE = 1.0  # pixels a box may stand out of its image: exporters round
_SHOWN = 20
_ORIENTATION = 0x0112  # EXIF


@dataclass
class Problem:
    """One bad record: what kind of problem, where, and why."""

    kind: str
    where: str
    why: str


@dataclass
class CheckedCoco:
    """The good records of a COCO json, what was wrong with the others, and how many annotations were
    completed with what COCO's evaluation needs: an ``area``, an ``iscrowd``, an id other than 0."""

    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    completed: int = 0

    def counts(self) -> Counter[str]:
        return Counter(p.kind for p in self.problems)

    def summary(self) -> str:
        lines = [f"  {n:6d}  {kind}" for kind, n in self.counts().most_common()]
        shown = [f"  {p.where}: {p.why}" for p in self.problems[:_SHOWN]]
        more = len(self.problems) - len(shown)
        return "\n".join([*lines, *shown, *([f"  ... and {more} more"] if more > 0 else [])])


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
    if verify_images not in get_args(VerifyImages):
        raise DatasetError(f"verify_images={verify_images}: choose from {', '.join(get_args(VerifyImages))}")
    data = _read(Path(json_path))
    checker = _Checker(Path(json_path), Path(image_root), data)
    checked = CheckedCoco(checker.run(verify_images), checker.problems)
    checked.completed = _complete(checked.data["annotations"])
    if checked.problems and not skip_bad_records:
        raise DatasetError(
            f"{json_path}: {len(checked.problems)} bad record(s)\n{checked.summary()}\n"
            f"Mend them, or train without them: --skip-bad-records"
        )
    if checked.problems:
        logger.warning(
            "%s: %d bad record(s) left out\n%s", json_path, len(checked.problems), checked.summary()
        )
    if not checked.data["images"] or not checked.data["annotations"]:
        raise DatasetError(
            f"{json_path}: no usable {'image' if not checked.data['images'] else 'annotation'} in it"
        )
    return checked


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a json file ({error})") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: a COCO json is an object, this is a {type(data).__name__}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(data.get(key), list):
            raise DatasetError(
                f"{path}: key {key!r} is missing or no list; a COCO json has images, annotations, categories"
            )
        if not data[key]:
            raise DatasetError(f"{path}: {key!r} is empty")
    return data


def _complete(annotations: list[dict[str, Any]]) -> int:
    """Fill in what COCO's evaluation reads of every annotation; how many lacked something.

    Most exporters leave out ``area`` or ``iscrowd`` now and then, and pycocotools takes a detection that
    matches an annotation of id 0 for unmatched.
    """
    unused = max((a["id"] for a in annotations), default=0) + 1
    count = 0
    for annotation in annotations:
        before = len(annotation)
        annotation.setdefault("iscrowd", 0)
        if not isinstance(annotation.get("area"), int | float):
            annotation["area"] = _area(annotation)
        count += len(annotation) > before or annotation["id"] == 0
        if annotation["id"] == 0:
            annotation["id"] = unused
    return count


def _area(annotation: dict[str, Any]) -> float:
    mask = annotation.get("segmentation")
    if not mask:
        return float(annotation["bbox"][2] * annotation["bbox"][3])
    if isinstance(mask, dict):
        return float(run_lengths(mask["counts"])[1::2].sum())
    # a common frame for the polygons: as many pixels as the farthest corner asks for
    side = math.ceil(max(max(polygon) for polygon in mask)) + 1
    return float(mask_util.area(mask_util.merge(mask_util.frPyObjects(mask, side, side))))


class _Checker:
    def __init__(self, path: Path, root: Path, data: dict[str, Any]):
        self.path, self.root, self.data = path, root, data
        self.problems: list[Problem] = []

    def bad(self, kind: str, where: str, why: str) -> None:
        self.problems.append(Problem(kind, where, why))

    def run(self, verify: VerifyImages) -> dict[str, Any]:
        categories = self._categories()
        images = self._images(verify)
        annotations = self._annotations(images, {c["id"] for c in categories})
        return {
            **self.data,
            "categories": categories,
            "images": list(images.values()),
            "annotations": annotations,
        }

    def _unique(
        self, records: list[Any], name: str, keys: tuple[str, ...], identity: type
    ) -> list[dict[str, Any]]:
        seen: set[Any] = set()
        good = []
        for number, record in enumerate(records):
            where = f"{name}[{number}]"
            missing = [k for k in keys if not isinstance(record, dict) or k not in record]
            if missing:
                self.bad("missing key", where, f"no {', '.join(missing)}")
            elif not isinstance(record["id"], identity):
                self.bad("bad id", where, f"id {record['id']!r} is no {identity.__name__}")
            elif record["id"] in seen:
                self.bad("duplicate id", where, f"id {record['id']} is used twice")
            else:
                seen.add(record["id"])
                good.append(record)
        return good

    def _categories(self) -> list[dict[str, Any]]:
        good = []
        for category in self._unique(self.data["categories"], "categories", ("id", "name"), int):
            if isinstance(category["name"], str):
                good.append(category)
            else:
                where = f"category id {category['id']}"
                self.bad("bad category", where, f"name {category['name']!r} is no text")
        return good

    def _images(self, verify: VerifyImages) -> dict[Any, dict[str, Any]]:
        records = self.data["images"]
        # text will do for an image, as long as all ids can be sorted together
        text = isinstance(records[0], dict) and isinstance(records[0].get("id"), str)
        keys = ("id", "file_name", "width", "height")
        images = []
        for image in self._unique(records, "images", keys, str if text else int):
            why = _image_record_problem(image)
            if why is None:
                images.append(image)
            else:
                self.bad("bad image record", f"image id {image['id']}", why)

        def look(image: dict[str, Any]) -> tuple[str, str] | None:
            return _image_problem(self.root / image["file_name"], image, verify)

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
        known = {
            i["id"] for i in self.data["images"] if isinstance(i, dict) and isinstance(i.get("id"), int | str)
        }
        keys = ("id", "image_id", "category_id", "bbox")
        good = []
        for annotation in self._unique(self.data["annotations"], "annotations", keys, int):
            where = f"annotation id {annotation['id']}"
            image_id, category = annotation["image_id"], annotation["category_id"]
            image = images.get(image_id) if isinstance(image_id, int | str) else None
            if image is None:
                # else the image itself is reported already
                if not isinstance(image_id, int | str) or image_id not in known:
                    self.bad("unknown image", where, f"image_id {image_id} is not declared")
                continue
            where = f"{where} on {image['file_name']}"
            if not isinstance(category, int) or category not in categories:
                self.bad("unknown category", where, f"category_id {category!r} is not declared")
                continue
            problem = (
                _box_problem(annotation["bbox"], image)
                or _mask_problem(annotation.get("segmentation"), image)
                or _flag_problem(annotation)
            )
            if problem is None:
                good.append(annotation)
            else:
                self.bad(problem[0], where, problem[1])
        return good


def _image_record_problem(image: dict[str, Any]) -> str | None:
    if not isinstance(image["file_name"], str) or not image["file_name"]:
        return f"file_name {image['file_name']!r} names no file"
    for key in ("width", "height"):
        if not isinstance(image[key], int) or image[key] < 1:
            return f"{key} {image[key]!r} of {image['file_name']} is no positive whole number"
    return None


def _image_problem(path: Path, image: dict[str, Any], verify: VerifyImages) -> tuple[str, str] | None:
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
            runs = run_lengths(mask.get("counts"))
        except ValueError as error:
            return "bad RLE", f"it can't be decoded ({error})"
        if runs.sum() != size[0] * size[1]:
            return "bad RLE", f"its runs hold {runs.sum()} pixels, the image {size[0] * size[1]}"
        return None if runs[1::2].any() else ("bad RLE", "it covers no pixel")
    if not isinstance(mask, list):
        return "bad segmentation", f"a {type(mask).__name__} is neither polygons nor RLE"
    for polygon in mask:
        if not isinstance(polygon, list) or len(polygon) < 6:
            return "polygon under 3 points", f"polygon {str(polygon)[:60]}"
        if len(polygon) % 2 or not all(isinstance(v, int | float) and math.isfinite(v) for v in polygon):
            return "bad polygon", f"polygon {str(polygon)[:60]} is not pairs of finite numbers"
    return None


def _flag_problem(annotation: dict[str, Any]) -> tuple[str, str] | None:
    if annotation.get("ignore"):
        return (
            "ignored annotation",
            "ignore is set, which Detectron2 can't honour; use iscrowd, or leave it out",
        )
    if annotation.get("iscrowd", 0) not in (0, 1):
        return "bad iscrowd", f"iscrowd {annotation['iscrowd']!r} is neither 0 nor 1"
    return None
