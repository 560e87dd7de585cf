"""COCO's own files: everything that pycocotools evaluates is kept, so that AP can be compared."""

from pathlib import Path
from typing import Any

import pycocotools.mask as mask_util

from .json_checker import JsonChecker
from .masks import Box, Mask, read_mask
from .records import Annotation, Category, Picture, read_area
from .values import BadValue, absent, flag, real, reals

# in a custom json these are mistakes; in COCO's they are objects below a pixel, and rounding
_KEPT = ("bad box", "box outside image", "box below a pixel", "mask without a pixel")


class OfficialChecker(JsonChecker):
    """A :class:`.JsonChecker` for files whose results are compared with published ones.

    Boxes without an area or outside their image, and masks that cover no pixel, are evaluated, as in
    pycocotools, and left out of training; given areas are kept, since they decide whether an object is small,
    medium or large. Everything else is refused as in any json.

    Attributes:
        untrained: the places in memory of the annotations that are measured only.
    """

    def __init__(self, path: Path, root: Path, data: dict[str, Any]):
        super().__init__(path, root, data)
        self.untrained: set[int] = set()

    def _annotation(
        self, fields: Any, where: str, picture: Picture, category: Category, keypoints: int
    ) -> Annotation:
        try:
            return super()._annotation(fields, where, picture, category, keypoints)
        except BadValue as error:
            if error.kind not in _KEPT:
                raise
            found = self._as_it_is(fields, where, picture, category, keypoints)
            what = f"an annotation that is evaluated, as in COCO, but not trained ({error.kind})"
            self.notes.add(what, f"{where}: {error}", quiet=True)
        self.untrained.add(id(found))
        return found

    def _as_it_is(
        self, fields: Any, where: str, picture: Picture, category: Category, keypoints: int
    ) -> Annotation:
        assert picture.width is not None and picture.height is not None
        x, y, w, h = reals(fields["bbox"], "box", 4, "four finite numbers x, y, width, height")
        given = fields.get("segmentation")
        try:
            mask = read_mask(given, picture.height, picture.width)
        except BadValue as error:
            if error.kind != "mask without a pixel":
                raise
            mask = Mask(_unchanged(given), (x, y, w, h), 0.0)
        crowd = not absent(fields.get("iscrowd")) and flag(fields["iscrowd"], "iscrowd")
        area = self._area(fields.get("area"), (x, y, w, h), mask, where)
        points = [0.0] * (3 * keypoints) if keypoints else None
        return Annotation(picture.id, category.id, (x, y, w, h), area, crowd, mask, points)

    def _area(self, value: Any, box: Box, mask: Mask | None, where: str) -> float:
        if absent(value):
            return super()._area(value, box, mask, where)
        given = real(value, "area")
        if read_area(value, box, mask)[1] is not None:
            self.notes.add("an area that is not that of its mask: COCO's value is kept", where, quiet=True)
        return given

    def _repeated(self, own: Any, where: str) -> None:
        """The minival files of 2014, which were derived from COCO's files, repeat some ids."""
        if "minival" not in Path(self.path).name:
            super()._repeated(own, where)
        self.notes.add(
            "an annotation whose id is used twice: all annotations are renumbered", where, quiet=True
        )


def _unchanged(segmentation: Any) -> list[list[float]] | dict[str, Any]:
    """Polygons as numbers, or a compressed RLE; ``segmentation`` has been read before."""
    if isinstance(segmentation, list):
        return [[float(v) for v in polygon] for polygon in segmentation]
    size, counts = segmentation["size"], segmentation["counts"]
    if isinstance(counts, list):
        counts = mask_util.frPyObjects({"size": size, "counts": counts}, *size)["counts"].decode("ascii")
    return {"size": list(size), "counts": counts}
