"""Confusions and pictures of a semantic segmentation."""

from typing import Any

import numpy as np

from ...data.decode import open_image
from .ranking import Ranking

Record = dict[str, Any]


def true_labels(record: Record) -> np.ndarray:
    """Classes ``(H, W)`` of a record's label image, read by its ``labelling`` where it has one."""
    labelling = record.get("labelling")
    if labelling is not None:
        return labelling.read(record["sem_seg_file_name"])
    with open_image(record["sem_seg_file_name"]) as image:
        return np.asarray(image if image.mode in ("L", "P") else image.convert("I"), dtype=np.int64)


class SemanticCounts:
    """Pixels of each pair of classes, and the images on which it went best and worst.

    Args:
        names: of the classes.
        ignored: the number of pixels that do not count.
        keep: images of either kind whose predicted labels are kept.

    Attributes:
        confusion: ``(K, K)`` pixels; rows are true classes, columns predicted ones.
        ranking: images by mIoU, with their predicted labels.
    """

    def __init__(self, names: list[str], ignored: int, keep: int):
        self.names, self.ignored, self.ranking = names, ignored, Ranking(keep)
        self.confusion = np.zeros((len(names), len(names)), dtype=np.int64)

    def add(self, file: str, labels: np.ndarray, predicted: np.ndarray) -> None:
        """One image: both ``(H, W)``.

        Raises:
            ValueError: their sizes differ.
        """
        if labels.shape != predicted.shape:
            raise ValueError(
                f"{file}: predicted {predicted.shape} pixels, but the labels have {labels.shape}"
            )
        count = len(self.names)
        seen = (labels != self.ignored) & (labels < count)
        pairs = np.bincount(count * labels[seen].astype(np.int64) + predicted[seen], minlength=count**2)
        own = pairs.reshape(count, count)
        self.confusion += own
        if not own.any():
            return
        there = own.sum(1) > 0
        small = predicted.astype(np.uint16)
        self.ranking.add(float(np.nanmean(iou(own)[there])), file, small)

    def merge(self, other: "SemanticCounts") -> None:
        """Take what another process has counted."""
        self.confusion += other.confusion
        self.ranking.merge(other.ranking)

    def rows(self) -> list[Record]:
        """``name``, ``share`` of the pixels, ``IoU`` and ``accuracy`` of each class, in percent."""
        total = self.confusion.sum(1)
        accuracy = np.diagonal(self.confusion) / np.where(total > 0, total, np.nan)
        values = zip(self.names, total / max(total.sum(), 1), iou(self.confusion), accuracy, strict=True)
        return [
            {"name": n, "share": 100 * float(s), "IoU": 100 * float(i), "accuracy": 100 * float(a)}
            for n, s, i, a in values
        ]


def iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class; nan where it is neither there nor predicted.

    ``(K, K)`` pixels, true class by predicted class or the other way round, to ``(K,)`` fractions.
    """
    hits = np.diagonal(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return hits / np.where(union > 0, union, np.nan)
