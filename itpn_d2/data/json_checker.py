"""The records of a json with images, annotations and categories, each good or with a problem of its own."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from .collector import uncollected
from .find import ImageFinder, what_name_is
from .masks import Box, Mask, disagree, read_mask
from .noticed import keypoint_outside, note_alike_names, note_repeated, note_unused
from .picture_check import VerifyImages, check_picture
from .problems import Notes, Problem
from .records import (
    Annotation,
    Category,
    CocoSet,
    Picture,
    distinct_names,
    read_area,
    read_category,
    read_keypoints,
    read_picture,
    required,
)
from .values import BadValue, Identity, absent, alike, flag, identity, reals, shown

_TOLERANCE = 1.0  # pixels a box may stand out of its image: exporters round
_CHUNK = 32  # images that a thread looks at, one after the other
_MANY_CROWDS = 0.2  # of the annotations; COCO has one in a hundred
_CORNERS = "read as corners x1, y1, x2, y2, it would fit"
_SHARES = "they look like fractions of the image's width and height; COCO's bbox is in pixels"
R = TypeVar("R", Category, Picture)


class JsonChecker:
    """Collects the problems of a json with images, annotations and categories, and keeps its good records."""

    def __init__(self, path: Path | str, root: Path, data: dict[str, Any]):
        self.path, self.root, self.data = path, root, data
        self.problems: list[Problem] = []
        self.notes = Notes()
        self._shares = 0  # boxes that look like shares of the image's sides

    def bad(self, kind: str, where: str, why: str) -> None:
        """Note a problem of ``kind`` in the record that ``where`` names."""
        self.problems.append(Problem(kind, where, why))

    def run(self, verify: VerifyImages) -> CocoSet:
        """Check everything and return the good records; ``verify`` says how images are looked at."""
        categories = self._without_other_keypoints(self.categories())
        pictures = self.pictures(verify)
        listed = self.data.get("annotations") or []
        with uncollected():
            annotations = self._annotations(listed, pictures, {c.id: c for c in categories})
        if listed:
            note_unused(self.notes, categories, annotations)
        return CocoSet(categories, list(pictures.values()), annotations, annotated=bool(listed))

    def hints(self) -> list[str]:
        """What problems have in common."""
        listed = self.data.get("annotations") or []
        if self._shares and self._shares == len(listed):
            return [f"All {self._shares} boxes are below one pixel: {_SHARES}"]
        return []

    def categories(self) -> list[Category]:
        """Those that can be used, of names that are each there once."""
        found: list[Category] = self._unique("categories", read_category)
        distinct = distinct_names(found)
        for before, category in zip(found, distinct, strict=True):
            if before != category:
                self.notes.add(
                    "a category that shares its name with another: both stay classes, with their ids in "
                    "the names; give them one id if they are the same class",
                    category.name,
                )
        note_alike_names(self.notes, distinct)
        return distinct

    def _unique(self, key: str, read: Any) -> list[Any]:
        """The records under ``key`` that can be read, each with an id of its own: of two different ones with
        one id none, since nobody knows which of them annotations are of."""
        seen: dict[Identity, Any] = {}
        good: dict[Identity, Any] = {}
        for number, record in enumerate(self.data[key]):
            where = f"{key}[{number}]"
            try:
                found = read(record)
            except BadValue as error:
                self.bad(error.kind, where, str(error))
                continue
            if found.id not in seen:
                seen[found.id], good[found.id] = record["id"], found
                continue
            before = seen[found.id]
            also = f" (as {shown(before)} and as {shown(record['id'])})" if before != record["id"] else ""
            self.bad("duplicate id", where, f"id {found.id} is used twice{also}")
            if good.get(found.id) != found:
                good.pop(found.id, None)
        return list(good.values())

    def _without_other_keypoints(self, categories: list[Category]) -> list[Category]:
        """A model has the same keypoints for all classes."""
        first: tuple[str, ...] = ()
        for category in categories:
            first = first or category.keypoints
            if category.keypoints and category.keypoints != first:
                why = f"keypoints {list(category.keypoints)} are not the {list(first)} of those before it"
                self.bad("other keypoints", f"category {category.name}", why)
                return [c for c in categories if c.keypoints in ((), first)]
        return categories

    def pictures(self, verify: VerifyImages) -> dict[Identity, Picture]:
        """The good ones by their id, each with the file that there is and its size."""
        pictures: list[Picture] = self._unique("images", read_picture)
        finder = self._finder()

        def look(picture: Picture) -> tuple[str | None, BadValue | None]:
            name = finder.find(picture.file_name)
            if name is None:
                path = os.path.join(finder.root, picture.file_name)
                what = what_name_is(picture.file_name)
                if not what and (other := finder.similar(picture.file_name)) is not None:
                    what = f"; there is {other}"
                return None, BadValue("missing image", f"no file {path}{what}")
            try:
                check_picture(os.path.join(finder.root, name), picture, verify)
            except BadValue as error:
                return name, error
            return name, None

        def look_at(some: Sequence[Picture]) -> list[tuple[str | None, BadValue | None]]:
            return [look(picture) for picture in some]

        chunks = [pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK)]
        without_size = {p.id for p in pictures if p.width is None or p.height is None}
        with ThreadPoolExecutor() as pool:
            looked = chain.from_iterable(pool.map(look_at, chunks))
            found = tqdm(looked, "checking images", len(pictures), delay=1.0, leave=False)
            good: dict[Identity, Picture] = {}
            files: dict[str, Identity] = {}
            for picture, (name, problem) in zip(pictures, found, strict=True):
                where = f"image id {picture.id} ({picture.file_name})"
                if name is not None and problem is None:
                    problem = self._taken(picture, name, files)
                if problem is not None:
                    self.bad(problem.kind, where, str(problem))
                    continue
                if name != picture.file_name:
                    assert name is not None
                    what = "an image whose file was found under another path than the json gives"
                    self.notes.add(what, f"{picture.file_name} is {name}", quiet=True)
                    picture.file_name = name
                if picture.id in without_size:
                    self.notes.add(
                        "an image without a size in the json: the size of the file is used", where, quiet=True
                    )
                good[picture.id] = picture
        return good

    def _finder(self) -> ImageFinder:
        return ImageFinder(self.root)

    @staticmethod
    def _taken(picture: Picture, name: str, files: dict[str, Identity]) -> BadValue | None:
        before = files.setdefault(os.path.normpath(name), picture.id)
        if before == picture.id:
            return None
        return BadValue(
            "file listed twice",
            f"{name} is already image {before}: objects that only one of the two has would be background "
            "in the other; give all annotations to one of them",
        )

    def _annotations(
        self, listed: list[Any], pictures: dict[Identity, Picture], categories: dict[Identity, Category]
    ) -> list[Annotation]:
        known = {"image": self._ids("images"), "category": self._ids("categories")}
        points = next((c.keypoints for c in categories.values() if c.keypoints), ())
        seen: set[Identity] = set()
        good = []
        for number, record in enumerate(listed):
            where = f"annotations[{number}]"
            try:
                fields = required(record, "image_id", "category_id", "bbox")
                if not absent(fields.get("id")):
                    own = identity(fields["id"], "id")
                    where = f"annotation id {own}"
                    if own in seen:
                        self._repeated(own, where)
                    seen.add(own)
                image = self._declared(fields["image_id"], "image", known)
                category = self._declared(fields["category_id"], "category", known)
                if image in pictures:
                    where = f"{where} on {pictures[image].file_name}"
                if image in pictures and category in categories:  # else they are reported themselves
                    picture, kind = pictures[image], categories[category]
                    good.append(self._annotation(fields, where, picture, kind, len(points)))
            except BadValue as error:
                self.bad(error.kind, where, str(error))
        note_repeated(self.notes, good, pictures)
        few = sum(a.crowd for a in good) < _MANY_CROWDS * len(good)
        for annotation in good:
            if annotation.crowd:
                what = "a crowd (iscrowd 1, which CVAT's brush also writes): neither trained nor scored"
                self.notes.add(what, f"on {pictures[annotation.image].file_name}", quiet=few)
        return good

    @cached_property
    def _names(self) -> dict[tuple[str, str], Any]:
        """The ids of images and categories by their names, which some programs write in their place."""
        found: dict[tuple[str, str], Any] = {}
        for key, what, name in (("images", "image", "file_name"), ("categories", "category", "name")):
            for record in self.data[key]:
                if isinstance(record, Mapping) and record.get("id") is not None:
                    found.setdefault((what, str(record.get(name)).strip()), record["id"])
        return found

    def _ids(self, key: str) -> dict[Identity, Any]:
        """All ids under ``key``, also of records that can't be used, as they are stored."""
        found: dict[Identity, Any] = {}
        for record in self.data[key]:
            try:
                found.setdefault(identity(record["id"], "id"), record["id"])
            except (BadValue, TypeError, KeyError):
                continue
        return found

    def _declared(self, value: Any, what: str, known: dict[str, dict[Identity, Any]]) -> Identity:
        found = identity(value, f"{what}_id")
        if found not in known[what]:
            similar = next((raw for i, raw in known[what].items() if alike(i, found)), None)
            hint = "" if similar is None else f"; there is {shown(similar)}"
            named = self._names.get((what, str(found))) if similar is None else None
            hint = hint if named is None else f"; it is the name of {shown(named)}: write that id instead"
            raise BadValue(f"unknown {what}", f"{what}_id {shown(value)} is not declared{hint}")
        return found

    def _annotation(
        self, fields: Any, where: str, picture: Picture, category: Category, keypoints: int
    ) -> Annotation:
        assert picture.width is not None and picture.height is not None
        box = self._box(fields["bbox"], where, picture.width, picture.height)
        mask = read_mask(fields.get("segmentation"), picture.height, picture.width)
        points = read_keypoints(fields.get("keypoints"), category.keypoints)
        crowd = not absent(fields.get("iscrowd")) and flag(fields["iscrowd"], "iscrowd")
        if not absent(fields.get("ignore")) and flag(fields["ignore"], "ignore") and not crowd:
            crowd = True
            self.notes.add(
                "an annotation with ignore 1: treated as a crowd, which is neither trained nor scored", where
            )
        if mask is not None and disagree(box, mask.box):
            what = (
                "a bbox that does not enclose its mask tightly (training with recompute_boxes uses "
                "the mask's box)"
            )
            self.notes.add(what, f"{where}: bbox {list(box)}, mask {list(mask.box)}")
        area = self._area(fields.get("area"), box, mask, where)
        if points is not None and keypoint_outside(points, picture.width, picture.height, _TOLERANCE):
            what = "an object with a labelled keypoint outside its image"
            self.notes.add(what, f"{where}: keypoints {str(fields['keypoints'])[:60]}")
        if keypoints and points is None:
            points = [0.0] * (3 * keypoints)
        return Annotation(picture.id, category.id, box, area, crowd, mask, points)

    def _area(self, value: Any, box: Box, mask: Mask | None, where: str) -> float:
        area, why = read_area(value, box, mask)
        if why is not None:
            of = "bbox" if mask is None else "mask"
            what = f"an area that is {why}: the area of the {of} is used"
            self.notes.add(what, f"{where}: {shown(value)} is {area:g}", quiet=why == "absent")
        return area

    def _repeated(self, own: Identity, where: str) -> None:
        """An annotation has the id of another."""
        raise BadValue("duplicate id", f"id {own} is used twice")

    def _box(self, value: Any, where: str, width: int, height: int) -> Box:
        x, y, w, h = reals(value, "box", 4, "four finite numbers x, y, width, height")
        if w <= 0 or h <= 0:
            raise BadValue("bad box", f"bbox {value} has no area")
        if max(x, y, w, h) <= 1 and min(width, height) > 1:
            self._shares += 1
            raise BadValue("box below a pixel", f"bbox {value}: {_SHARES}")
        beyond = max(-x, -y, x + w - width, y + h - height)
        if beyond > _TOLERANCE:
            corners = w > x >= 0 and h > y >= 0 and w <= width + _TOLERANCE and h <= height + _TOLERANCE
            raise BadValue(
                "box outside image",
                f"bbox {value} extends beyond the {width}x{height} image by {beyond:g} px"
                + (f"; {_CORNERS}" if corners else ""),
            )
        if w < 1 or h < 1:
            self.notes.add("a bbox below one pixel wide or high", f"{where}: {value}")
        return x, y, w, h
