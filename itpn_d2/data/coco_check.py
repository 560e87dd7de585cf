"""Checking a COCO json and its images before training starts, all problems at once."""

import json
import logging
import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pycocotools.mask as mask_util
from PIL import Image
from tqdm import tqdm

from .errors import DatasetError

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
    """The good records of a COCO json, and what was wrong with the others."""

    data: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)

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
    data = _read(Path(json_path))
    checker = _Checker(Path(json_path), Path(image_root), data)
    checked = CheckedCoco(checker.run(verify_images), checker.problems)
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

    def _unique(self, records: list[Any], name: str, keys: tuple[str, ...]) -> list[dict[str, Any]]:
        seen: set[Any] = set()
        good = []
        for number, record in enumerate(records):
            where = f"{name}[{number}]"
            missing = [k for k in keys if not isinstance(record, dict) or k not in record]
            if missing:
                self.bad("missing key", where, f"no {', '.join(missing)}")
            elif record["id"] in seen:
                self.bad("duplicate id", where, f"id {record['id']} is used twice")
            else:
                seen.add(record["id"])
                good.append(record)
        return good

    def _categories(self) -> list[dict[str, Any]]:
        return self._unique(self.data["categories"], "categories", ("id", "name"))

    def _images(self, verify: VerifyImages) -> dict[Any, dict[str, Any]]:
        images = self._unique(self.data["images"], "images", ("id", "file_name", "width", "height"))

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
        known = {i.get("id") for i in self.data["images"] if isinstance(i, dict)}
        keys = ("id", "image_id", "category_id", "bbox")
        good = []
        for annotation in self._unique(self.data["annotations"], "annotations", keys):
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
            problem = _box_problem(annotation["bbox"], image) or _mask_problem(
                annotation.get("segmentation"), image
            )
            if problem is None:
                good.append(annotation)
            else:
                self.bad(problem[0], where, problem[1])
        return good


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
