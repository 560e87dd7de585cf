"""What is odd about records that can be used all the same: taken note of, once for each kind."""

from collections.abc import Mapping, Sequence
from typing import Any

from .problems import Notes
from .records import Annotation, Category, Picture
from .values import Identity


def note_alike_names(notes: Notes, categories: Sequence[Category]) -> None:
    """Names that differ in blanks or letter case alone."""
    seen: dict[str, str] = {}
    for category in categories:
        before = seen.setdefault(" ".join(category.name.casefold().split()), category.name)
        if before != category.name:
            what = "a category whose name differs from another's only in spaces or letter case"
            notes.add(what, f"{category.name!r} and {before!r} are two classes")


def note_repeated(
    notes: Notes, annotations: Sequence[Annotation], pictures: Mapping[Identity, Picture]
) -> None:
    """Objects that are there twice: a detector that finds each once misses one of two."""
    seen: dict[Any, Annotation] = {}
    for a in annotations:
        before = seen.setdefault((a.image, a.category, a.box), a)
        same = before is not a and (before.mask is None) == (a.mask is None) and before.crowd == a.crowd
        if same and (
            a.mask is None or before.mask is None or a.mask.segmentation == before.mask.segmentation
        ):
            what = (
                "an annotation that is listed twice, under two ids, so that even a perfect model has an AP "
                "below 100"
            )
            notes.add(what, f"bbox {list(a.box)} on {pictures[a.image].file_name}")


def note_unused(notes: Notes, categories: Sequence[Category], annotations: Sequence[Annotation]) -> None:
    """Classes without an object."""
    used = {a.category for a in annotations}
    above = {c.supercategory for c in categories}
    for category in categories:
        if category.id in used:
            continue
        root = category.name in above and category.supercategory != category.name
        what = "a category without an object"
        if root:
            what += (
                " that is the parent of the others (Roboflow writes one): it becomes a class that "
                "never occurs"
            )
        notes.add(what, f"{category.name!r} (id {category.id})", quiet=not root)


def keypoint_outside(points: Sequence[float], width: int, height: int, tolerance: float) -> bool:
    """Whether a labelled one of ``points`` (x, y, visibility, ...) lies out of the image by more pixels than
    ``tolerance``."""
    labelled = [(x, y) for x, y, v in zip(points[::3], points[1::3], points[2::3], strict=True) if v > 0]
    return any(min(x, y) < -tolerance or x > width + tolerance or y > height + tolerance for x, y in labelled)
