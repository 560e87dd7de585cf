"""The typed records of images with annotations, from which training, evaluation and drawing are all fed.

Whatever a json has been like, here ids are hashable, numbers are numbers, and what is absent is None.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from detectron2.structures import BoxMode

from .collector import uncollected
from .masks import Box, Mask, plausible_area
from .values import BadValue, Identity, absent, encodable, flag, identity, real, reals, text, whole

_LARGEST_ID = 2**53  # pycocotools keeps numbers as float64
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Category:
    """A class: its id, name, names of its keypoints, and whether it is a thing (None where that is not
    said)."""

    id: Identity
    name: str
    supercategory: str = ""
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    isthing: bool | None = None


@dataclass(slots=True)
class Picture:
    """An image: its id, its path below the folder of images, and its size in pixels as it lies upright (None
    where the json does not say)."""

    id: Identity
    file_name: str
    width: int | None
    height: int | None


@dataclass(slots=True)
class Annotation:
    """An object.

    Attributes:
        image, category: ids.
        box: x, y, width, height in pixels.
        area: in pixels.
        crowd: a region of many objects, neither trained nor scored.
        keypoints: x, y and visibility (0, 1 or 2) of each.
    """

    image: Identity
    category: Identity
    box: Box
    area: float
    crowd: bool = False
    mask: Mask | None = None
    keypoints: list[float] | None = None


@dataclass
class CocoSet:
    """Images with their objects; ``annotated`` is False where the json has no annotations at all."""

    categories: list[Category]
    pictures: list[Picture]
    annotations: list[Annotation]
    annotated: bool = True
    numbers: "Numbers" = field(init=False)

    def __post_init__(self) -> None:
        self.categories.sort(key=lambda c: order(c.id))
        self.pictures.sort(key=lambda p: order(p.id))
        self.numbers = Numbers([p.id for p in self.pictures], [c.id for c in self.categories])

    @property
    def keypoints(self) -> list[str]:
        """Names of the keypoints, the same for all categories that have some; empty without any."""
        return next((list(c.keypoints) for c in self.categories if c.keypoints), [])


class Numbers:
    """The numbers that images and categories have in evaluation: their ids where those are numbers, else
    counted from 1.

    Attributes:
        images, categories: from id to number.
        image_ids, category_ids: from number to id where they differ, else None.
    """

    def __init__(self, images: Sequence[Identity], categories: Sequence[Identity]):
        self.images, self.image_ids = self._of(images)
        self.categories, self.category_ids = self._of(categories)

    @staticmethod
    def _of(ids: Sequence[Identity]) -> tuple[dict[Identity, int], dict[int, Identity] | None]:
        if all(isinstance(i, int) and 0 <= i < _LARGEST_ID for i in ids):
            return {i: int(i) for i in ids}, None
        return {i: n for n, i in enumerate(ids, 1)}, dict(enumerate(ids, 1))


def order(value: Identity) -> tuple[bool, Identity]:
    """What ids are sorted by: numbers before texts."""
    return isinstance(value, str), value


def read_category(record: Any) -> Category:
    """
    Raises:
        BadValue: it has no id or name, or its keypoints are no names.
    """
    fields = _fields(record, "id", "name")
    name = fields["name"]
    points = fields.get("keypoints")
    if not absent(points) and not (isinstance(points, list) and all(isinstance(p, str) for p in points)):
        raise BadValue(
            "bad keypoints", f"keypoints of the category are {str(points)[:60]}, not a list of names"
        )
    thing = fields.get("isthing")
    return Category(
        identity(fields["id"], "id"),
        str(name) if isinstance(name, int) and not isinstance(name, bool) else encodable(text(name, "name")),
        encodable(above) if isinstance(above := fields.get("supercategory"), str) else "",
        tuple(map(encodable, points or ())),
        _skeleton(fields.get("skeleton")),
        None if absent(thing) else flag(thing, "isthing"),
    )


def distinct_names(categories: Sequence[Category]) -> list[Category]:
    """The categories, where several have one name with their ids in it."""
    counts = Counter(c.name for c in categories)
    return [replace(c, name=f"{c.name} (id {c.id})") if counts[c.name] > 1 else c for c in categories]


def _skeleton(value: Any) -> tuple[tuple[int, int], ...]:
    """Pairs of keypoints to draw lines between; nothing else depends on them."""
    try:
        pairs = [reals(pair, "skeleton", 2, "a pair") for pair in value or ()]
    except (BadValue, TypeError):
        return ()
    return tuple((int(a), int(b)) for a, b in pairs)


def read_picture(record: Any) -> Picture:
    """
    Raises:
        BadValue: it has no id or file name, or a size that is none.
    """
    fields = _fields(record, "id", "file_name")
    sizes: dict[str, int | None] = {}
    for name in ("width", "height"):
        value = fields.get(name)
        sizes[name] = None if absent(value) else whole(value, name)
        if (size := sizes[name]) is not None and size < 1:
            raise BadValue(f"bad {name}", f"{name} is {size}, not a number of pixels")
    return Picture(
        identity(fields["id"], "id"), text(fields["file_name"], "file_name"), sizes["width"], sizes["height"]
    )


def read_area(value: Any, box: Box, mask: Mask | None) -> tuple[float, str | None]:
    """The area of an object, and where it is not the given one why: ``absent`` or ``impossible``. It is then
    what the mask covers, or the box."""
    own = mask.area if mask is not None else box[2] * box[3]
    if absent(value):
        return own, "absent"
    try:
        given = real(value, "area")
    except BadValue:
        return own, "impossible"
    return (given, None) if plausible_area(given, box, mask) else (own, "impossible")


def read_keypoints(value: Any, names: Sequence[str]) -> list[float] | None:
    """Three numbers for each of ``names``; None where there are none.

    Raises:
        BadValue: another number of them, or a visibility that is none.
    """
    if absent(value) or value == [] or not names:
        return None
    what = f"three numbers for each of its category's {len(names)} keypoints"
    found = reals(value, "keypoints", 3 * len(names), what)
    if not set(found[2::3]) <= {0, 1, 2}:
        raise BadValue(
            "bad keypoints",
            f"keypoints {str(value)[:60]}: every third number is 0 (absent), 1 (hidden) or 2 (visible)",
        )
    return found


def _fields(record: Any, *needed: str) -> Mapping[str, Any]:
    """A record's fields.

    Raises:
        BadValue: it is no object, or lacks one that is ``needed``.
    """
    if not isinstance(record, Mapping):
        raise BadValue("no object", f"{str(record)[:60]} is not an object with {', '.join(needed)}")
    missing = [name for name in needed if absent(record.get(name))]
    if missing:
        raise BadValue("missing key", f"no {', '.join(missing)}")
    return record


required = _fields


@uncollected()
def as_dicts(coco: CocoSet, root: str) -> list[Record]:
    """Detectron2's dataset dicts, in the order of the ids, with contiguous classes. Keypoints count from the
    corner of a pixel there, from its middle in a json."""
    number = {c.id: i for i, c in enumerate(coco.categories)}
    of_image: dict[Identity, list[Record]] = {p.id: [] for p in coco.pictures}
    for a in coco.annotations:
        record: Record = {
            "iscrowd": int(a.crowd),
            "bbox": list(a.box),
            "category_id": number[a.category],
            "bbox_mode": BoxMode.XYWH_ABS,
        }
        if a.mask is not None:
            record["segmentation"] = a.mask.segmentation
        if a.keypoints is not None:
            record["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(a.keypoints)]
        of_image[a.image].append(record)
    found = []
    for p in coco.pictures:
        entry: Record = {
            "file_name": os.path.join(root, p.file_name),
            "image_id": coco.numbers.images[p.id],
            "width": p.width,
            "height": p.height,
        }
        if coco.annotated:
            entry["annotations"] = of_image[p.id]
        found.append(entry)
    return found


@uncollected()
def as_json(coco: CocoSet) -> str:
    """The set as a COCO json for evaluation: annotations count from 1, since pycocotools takes the id 0 for
    no match, and have all fields. A set without annotations has no list of them."""
    numbers = coco.numbers
    categories: list[Record] = []
    for c in coco.categories:
        categories.append({"id": numbers.categories[c.id], "name": c.name, "supercategory": c.supercategory})
        if c.keypoints:
            categories[-1].update(keypoints=c.keypoints, skeleton=c.skeleton)
    content: Record = {
        "images": [
            {"id": numbers.images[p.id], "file_name": p.file_name, "width": p.width, "height": p.height}
            for p in coco.pictures
        ],
        "categories": categories,
    }
    if coco.annotated:
        content["annotations"] = [_annotation(n, a, numbers) for n, a in enumerate(coco.annotations, 1)]
    return json.dumps(content)  # plain ASCII: also of names that no UTF-8 can hold


def _annotation(number: int, a: Annotation, numbers: Numbers) -> Record:
    record: Record = {
        "id": number,
        "image_id": numbers.images[a.image],
        "category_id": numbers.categories[a.category],
        "bbox": a.box,
        "area": a.area,
        "iscrowd": int(a.crowd),
    }
    if a.mask is not None:
        record["segmentation"] = a.mask.segmentation
    if a.keypoints is not None:
        record.update(keypoints=a.keypoints, num_keypoints=sum(v > 0 for v in a.keypoints[2::3]))
    return record
