"""The annotations that predictions are compared with, in memory once per machine."""

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from pycocotools.coco import COCO

from ..data import read_once
from ..data.collector import uncollected
from ..data.record_table import RecordTable
from ..errors import DatasetError

_kept: dict[str, tuple[Any, "Truth"]] = {}  # the last json, by its path


class Truth:
    """What a COCO json holds: categories as they are, images and annotations as tables, which processes of a
    machine map from one file (:func:`.read_once`).

    Attributes:
        image_ids: (N,) int64, in the order of the json.
        annotated: whether the json has annotations at all, be it none.
        keypoints: of the first annotation, their number.
    """

    def __init__(self, content: dict[str, Any]):
        images, annotations = content["images"], content.get("annotations", ())
        self.annotated = "annotations" in content
        self.categories = content.get("categories", [])
        self.image_ids = np.array([image["id"] for image in images], np.int64)
        self.keypoints = len(annotations[0].get("keypoints", ())) // 3 if annotations else 0
        self._images, self._annotations = RecordTable(images), RecordTable(annotations)
        self._image_of = np.array([a["image_id"] for a in annotations], np.int64)
        self._category_of = np.array([a["category_id"] for a in annotations], np.int64)
        self._crowd = np.array([bool(a.get("iscrowd", 0)) for a in annotations], np.bool_)

    def of(self, images: Collection[int] | None) -> COCO:
        """COCO's object of some images alone, None for all, with all categories."""
        found = COCO()
        chosen = None if images is None else np.fromiter(images, np.int64, len(images))
        found.dataset = {
            "images": _those(self._images, self.image_ids, chosen),
            "categories": self.categories,
            "annotations": _those(self._annotations, self._image_of, chosen),
        }
        found.createIndex()
        return found

    def objects(self, images: Collection[int] | None = None) -> Iterator[dict[str, Any]]:
        """The annotations of some images, None for all, that are no crowds."""
        taken = ~self._crowd
        if images is not None:
            taken &= np.isin(self._image_of, np.fromiter(images, np.int64, len(images)))
        yield from self._annotations.take(np.flatnonzero(taken))

    def counts(self) -> Counter[tuple[int, int]]:
        """The number of objects by image and category, without crowds."""
        kept = ~self._crowd
        return Counter(zip(self._image_of[kept].tolist(), self._category_of[kept].tolist(), strict=True))


def _those(table: RecordTable, ids: np.ndarray, chosen: np.ndarray | None) -> list[dict[str, Any]]:
    return list(table if chosen is None else table.take(np.flatnonzero(np.isin(ids, chosen))))


def read_truth(path: str) -> Truth:
    """The annotations in a COCO json, parsed by the first process of each machine alone, and once by it;
    collective.

    Raises:
        DatasetError: it can't be read, or is no COCO json.
    """
    local = PathManager.get_local_path(path)
    key = _state(local)
    before = _kept.get(path)
    if all(comm.all_gather(before is not None and before[0] == key)):
        assert before is not None
        return before[1]

    def read() -> Truth:
        try:
            with open(local, "rb") as file, uncollected():
                return Truth(json.load(file))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(
                f"{path}: no COCO json to evaluate with ({type(error).__name__}: {error})"
            ) from error

    found = read_once(path, read)
    _kept.clear()
    _kept[path] = key, found
    return found


def _state(path: str) -> Any:
    try:
        known = os.stat(path)
    except OSError:
        return None
    return known.st_size, known.st_mtime_ns
