"""Segmentations of a COCO json: checked before pycocotools sees them, which trusts what it is given.

Of an RLE whose runs do not fill the image its intersections never end, and coordinates far from the image end
the process.
"""

import math
from dataclasses import dataclass
from operator import mul
from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from .values import BadValue, absent, real, shown, whole

Box = tuple[float, float, float, float]  # x, y, width, height in pixels
_NUMBERS = {int, float}
_SMALL = 8.0  # px of polygons: with fewer, whether one covers a pixel is counted


@dataclass(frozen=True)
class Mask:
    """What an object covers.

    Attributes:
        segmentation: polygons ``[[x, y, ...], ...]``, or a compressed RLE.
        box: around it.
        area: in pixels; of polygons that of what they enclose.
    """

    segmentation: list[list[float]] | dict[str, Any]
    box: Box
    area: float


def read_mask(value: Any, height: int, width: int) -> Mask | None:
    """The segmentation of an object in an image of this size; None where there is none (null, ``[]``).

    Raises:
        BadValue: it is neither polygons nor an RLE, covers no pixel, or lies far from the image.
    """
    if absent(value) or value == [] or value == {}:
        return None
    if isinstance(value, dict):
        return _encoded(value, height, width)
    if not isinstance(value, list):
        raise BadValue("bad segmentation", f"{shown(value)} is neither polygons nor RLE{_as_text(value)}")
    usual = _usual(value, height, width)
    if usual is not None:
        return usual
    filled = [part for part in value if part != []]  # a polygon without a point covers nothing
    return _polygons(filled, height, width) if filled else None


def _as_text(value: Any) -> str:
    """Of a text, whether it seems to hold what should be there itself."""
    if isinstance(value, str) and value.strip().startswith(("[", "{")):
        return ": it is json within a text, remove the quotes around it"
    return ""


def _usual(value: list[Any], height: int, width: int) -> Mask | None:
    """One polygon of numbers, in its image, that encloses an area, as nearly all are; None where a closer
    look is needed. Of so few numbers lists are several times as quick as arrays."""
    polygon = value[0]
    if len(value) > 1 or type(polygon) is not list or len(polygon) < 6 or len(polygon) % 2:
        return None
    if not set(map(type, polygon)) <= _NUMBERS:
        return None
    x, y = polygon[::2], polygon[1::2]
    left, top, right, bottom = min(x), min(y), max(x), max(y)
    if not (left >= 0 and top >= 0 and right <= width and bottom <= height):
        return None
    inner = sum(map(mul, x, y[1:])) - sum(map(mul, y, x[1:]))
    area = abs(inner + x[-1] * y[0] - y[-1] * x[0]) / 2
    half = len(x) // 2
    twice = len(x) == 2 * half and x[:half] == x[half:] and y[:half] == y[half:]
    # the comparisons are false where one of the numbers is nan
    if twice or not _SMALL <= area <= (right - left) * (bottom - top):
        return None
    box = float(left), float(top), float(right - left), float(bottom - top)
    return Mask([list(map(float, polygon))], box, float(area))


def _polygons(value: list[Any], height: int, width: int) -> Mask:
    _check_nesting(value)
    points = [_points(polygon, height, width) for polygon in value]
    polygons = [p.ravel().tolist() for p in points]
    joined = points[0] if len(points) == 1 else np.concatenate(points)
    low, high = joined.min(0), joined.max(0)
    area = sum(_enclosed(p) for p in points)
    inside = (low >= 0).all() and high[0] <= width and high[1] <= height
    wound = area > float(np.prod(high - low)) or any(_traced_twice(p) for p in points)
    if area < _SMALL or wound or not inside or len(points) > 1:  # then it is counted what it covers
        covered = int(mask_util.area(mask_util.merge(mask_util.frPyObjects(polygons, height, width))))
        if covered == 0:
            raise BadValue(
                "mask without a pixel",
                f"polygons {str(value)[:60]} cover no pixel of the {width}x{height} image"
                + ("; are they fractions of its width and height?" if float(high.max()) <= 1 else "")
                + ("; an outline that is traced twice cancels itself" if wound else ""),
            )
        area = area if inside and not wound and len(points) == 1 and area > 0 else float(covered)
    low, high = np.clip(low, 0, (width, height)), np.clip(high, 0, (width, height))
    x, y, w, h = (float(v) for v in (*low, *(high - low)))
    return Mask(polygons, (x, y, w, h), float(area))


def _check_nesting(value: list[Any]) -> None:
    first = value[0]
    if not isinstance(first, list):
        if all(isinstance(v, int | float | str) for v in value):
            raise BadValue(
                "flat polygon",
                f"segmentation {str(value)[:60]} is one list of numbers, not a list of polygons: "
                f"a pair of brackets is missing around it",
            )
        hint = ": an RLE in a list, remove the brackets around it" if isinstance(first, dict) else ""
        raise BadValue("bad segmentation", f"{str(value)[:60]} is neither polygons nor RLE{hint}")
    if first and isinstance(first[0], dict):
        raise BadValue(
            "bad polygon",
            f"segmentation {str(value)[:60]} has points as objects: write x, y, x, y, ... as one list",
        )
    if first and isinstance(first[0], list):
        what = "points as pairs" if first[0] and not isinstance(first[0][0], list) else "polygons in polygons"
        raise BadValue(
            "polygon nested too deep",
            f"segmentation {str(value)[:60]} has {what}: a polygon is one list x, y, x, y, ...",
        )


def _points(polygon: Any, height: int, width: int) -> np.ndarray:
    """Corners (n, 2) of a polygon."""
    cut = str(polygon[:12] if isinstance(polygon, list) else polygon)[:60]
    if not isinstance(polygon, list) or len(polygon) < 6:
        raise BadValue("polygon under 3 points", f"polygon {cut}")
    try:
        plain = set(map(type, polygon)) <= _NUMBERS  # in almost all files: no need to look at each number
        numbers = np.array(polygon if plain else [real(v, "polygon") for v in polygon], dtype=np.float64)
    except (BadValue, OverflowError):
        numbers = np.array([np.nan])
    if len(numbers) % 2 or not np.isfinite(numbers).all():
        raise BadValue("bad polygon", f"polygon {cut} is not pairs of finite numbers")
    points, reach = numbers.reshape(-1, 2), max(height, width)
    if points.min() < -reach or (points.max(0) > (width + reach, height + reach)).any():
        raise BadValue(
            "polygon far from its image", f"polygon {cut} is far outside the {width}x{height} image"
        )
    return points


def _traced_twice(points: np.ndarray) -> bool:
    half = len(points) // 2
    return len(points) == 2 * half and bool((points[:half] == points[half:]).all())


def _enclosed(points: np.ndarray) -> float:
    """The area of a polygon (n, 2), by the shoelace formula."""
    x, y = points.T
    inner = np.dot(x[:-1], y[1:]) - np.dot(y[:-1], x[1:])
    return abs(float(inner + x[-1] * y[0] - y[-1] * x[0])) / 2


def _encoded(value: dict[str, Any], height: int, width: int) -> Mask:
    size, counts = value.get("size"), value.get("counts")
    try:
        found = [whole(v, "size") for v in size] if isinstance(size, list) else None
    except BadValue:
        found = None
    if found != [height, width]:
        turned = ": width and height are exchanged" if found == [width, height] else ""
        raise BadValue(
            "RLE of the wrong size",
            f"its size is {size}, but the image's (height, width) is {[height, width]}{turned}",
        )
    if isinstance(counts, list):
        try:
            runs = [whole(v, "run") for v in counts]
        except BadValue as error:
            raise BadValue("bad RLE", f"its runs are not whole numbers: {error}") from error
    elif isinstance(counts, str) and counts:
        runs = _runs_of(counts)
    else:
        raise BadValue("bad RLE", f"its counts are {shown(counts)}: a list of numbers or a text is needed")
    if not runs or min(runs) < 0 or sum(runs) != height * width:
        raise BadValue(
            "RLE that does not fill its image",
            f"its runs add up to {sum(runs)} pixels, but the {width}x{height} image has {height * width}",
        )
    if not any(runs[1::2]):
        raise BadValue("mask without a pixel", "its RLE covers no pixel")
    rle = mask_util.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    x, y, w, h = (float(v) for v in mask_util.toBbox(rle))
    code = {"size": [height, width], "counts": rle["counts"].decode("ascii")}
    return Mask(code, (x, y, w, h), float(sum(runs[1::2])))


def _runs_of(code: str) -> list[int]:
    """The runs of a compressed RLE (https://github.com/cocodataset/cocoapi, ``maskApi.c``): of each number
    five bits a character, the lowest first, 32 where more follow, 16 of the last for a minus; from the fourth
    on they are differences to the run before the last."""
    runs: list[int] = []
    number, shift = 0, 0
    for character in code:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 50:
            raise BadValue(
                "bad RLE", f"its text holds {character!r} at a wrong position: it can't be decoded"
            )
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
        number, shift = 0, 0
    if shift:
        raise BadValue("bad RLE", "its text ends in the middle of a number")
    return runs


def disagree(box: Box, mask: Box) -> bool:
    """Whether a box is not the one around its mask: by more than an annotator's or a program's rounding."""
    corners = [(b[0], b[1], b[0] + b[2], b[1] + b[3]) for b in (box, mask)]
    (a, b, c, d), (e, f, g, h) = corners
    off = max(abs(a - e), abs(b - f), abs(c - g), abs(d - h))
    if off <= 3:
        return False
    wide = min(corners[0][2], corners[1][2]) - max(corners[0][0], corners[1][0])
    high = min(corners[0][3], corners[1][3]) - max(corners[0][1], corners[1][1])
    common = max(wide, 0.0) * max(high, 0.0)
    union = box[2] * box[3] + mask[2] * mask[3] - common
    return common < 0.7 * union


def plausible_area(area: float, box: Box, mask: Mask | None) -> bool:
    """Whether ``area`` can be that of an object: not above its box's by more than its rim, and about its
    mask's where it has one."""
    width, height = box[2], box[3]
    if not math.isfinite(area) or area <= 0 or area > 1.01 * width * height + 2 * (width + height) + 4:
        return False
    if mask is None:
        return area >= 1 or width * height < 2
    rim = 2 * (mask.box[2] + mask.box[3]) + 4
    return 0.5 * mask.area - rim <= area <= 2 * mask.area + rim
