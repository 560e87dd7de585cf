"""Checking a COCO json and its images before training starts, all problems at once."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

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
        return Counter(p.kind for p in self.problems)

    def summary(self) -> str:
        return summary(self.problems)


def check_coco(
    json_path: str | Path,
    image_root: str | Path,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> CheckedCoco:
    """Read and check a COCO json with boxes and, where given, segmentations and keypoints. What is decided
    about records that are used all the same is logged.

    Args:
        skip_bad_records: drop bad records (an image with its annotations) and log their counts, instead of
            refusing.
        verify_images: ``decode`` reads every image whole, ``header`` its size only, ``none`` only looks that
            it is there.

    Raises:
        DatasetError: the file is no COCO json, holds nothing usable, or holds bad records; the message names
        them.
    """
    data = read_json(Path(json_path), ("images", "categories"), "a COCO json", ("annotations",))
    checker = JsonChecker(Path(json_path), Path(image_root), data)
    checked = CheckedCoco(checker.run(verify_images), checker.problems, checker.notes)
    settle(json_path, checked.problems, skip_bad_records, checker.hints())
    checked.notes.log(json_path)
    coco = checked.coco
    if not coco.pictures or (coco.annotated and not coco.annotations):
        raise DatasetError(f"{json_path}: no usable {'image' if not coco.pictures else 'annotation'} in it")
    if coco.annotated and all(a.crowd for a in coco.annotations):
        raise DatasetError(
            f"{json_path}: all {len(coco.annotations)} annotations are crowds (iscrowd 1), which are neither "
            f"trained nor scored. CVAT writes masks that were painted with its brush so: where each is one "
            f"object, set iscrowd to 0"
        )
    return checked
