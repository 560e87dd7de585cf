"""Checking a COCO json and its images before training starts, all problems at once."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DatasetError
from .json_checker import JsonChecker
from .picture_check import VerifyImages
from .problems import Notes, Problem, read_json, settle, summary
from .records import CocoSet


@dataclass
class CheckedCoco:
    """The good records of a COCO json, and what was wrong with the others."""

    coco: CocoSet
    problems: list[Problem] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def counts(self) -> Counter[str]:
        """How many problems there are of each kind."""
        return Counter(p.kind for p in self.problems)

    def summary(self) -> str:
        """The problems as text: how many there are of each kind, and the first ones in full."""
        return summary(self.problems)


def check_coco(
    json_path: str | Path,
    image_root: str | Path,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> CheckedCoco:
    """Read and check a COCO json with boxes and, where given, segmentations and keypoints. Deviations that
    are accepted are logged.

    Args:
        skip_bad_records: drop bad records (an image with its annotations) and log their counts, instead of
            refusing.
        verify_images: ``decode`` reads every image whole, ``header`` its size only, ``none`` only checks that
            it exists.

    Raises:
        DatasetError: the file is no COCO json, holds nothing usable, or holds bad records; the message names
        them.
    """
    checker = JsonChecker(Path(json_path), Path(image_root), read_coco(json_path))
    return judge(checker, skip_bad_records, verify_images)


def read_coco(path: str | Path) -> dict[str, Any]:
    """The content of a COCO json, whose annotations may be missing.

    Raises:
        DatasetError: it is none.
    """
    return read_json(Path(path), ("images", "categories"), "a COCO json", ("annotations",))


def judge(checker: JsonChecker, skip_bad_records: bool, verify_images: VerifyImages) -> CheckedCoco:
    """The findings of a checker, treated as described in :func:`check_coco`.

    Raises:
        DatasetError: see there.
    """
    path = checker.path
    checked = CheckedCoco(checker.run(verify_images), checker.problems, checker.notes)
    settle(path, checked.problems, skip_bad_records, checker.hints())
    checked.notes.log(path)
    coco = checked.coco
    if not coco.pictures or (coco.annotated and not coco.annotations):
        raise DatasetError(f"{path}: no usable {'image' if not coco.pictures else 'annotation'} in it")
    if coco.annotated and all(a.crowd for a in coco.annotations):
        raise DatasetError(
            f"{path}: all {len(coco.annotations)} annotations are crowds (iscrowd 1), which are neither "
            "trained nor scored. CVAT exports masks painted with its brush like this; if each is a "
            "single object, set iscrowd to 0"
        )
    return checked
