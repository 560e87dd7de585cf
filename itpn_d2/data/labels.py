"""Label images: of a semantic set a class number for each pixel, of a panoptic set a segment number."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DatasetError
from .decode import BrokenImageError, open_image, stored_numbers

IGNORED = 255  # what becomes of pixels without a class; Detectron2's convention
MAX_CLASSES = IGNORED


@dataclass(frozen=True)
class Labelling:
    """What the numbers in the label images of a set mean.

    Attributes:
        num_classes: classes are 0 to ``num_classes - 1``.
        zero_is_other: 0 stands for no class and classes are stored from 1, as in ADE20K.
        ignore_label: the number, as stored, of pixels that neither train nor count.
    """

    num_classes: int
    zero_is_other: bool = False
    ignore_label: int = 255

    def read(self, path: str) -> np.ndarray:
        """Classes ``(H, W)`` uint8, :data:`IGNORED` where there is none.

        Raises:
            DatasetError: the file can't be read, has colours, or numbers that are no class.
        """
        numbers = read_numbers(path)
        if numbers.ndim != 2:
            raise DatasetError(
                f"{path}: colours instead of class numbers; save one 8-bit channel, or a palette image"
            )
        classes = numbers.astype(np.int32) - self.zero_is_other
        ignored = (numbers == self.ignore_label) | (classes < 0)
        wrong = ~ignored & (classes >= self.num_classes)
        if wrong.any():
            found = ", ".join(str(n) for n in np.unique(numbers[wrong])[:5])
            first = 1 if self.zero_is_other else 0
            raise DatasetError(
                f"{path}: number {found} is not a class; classes are {first} to "
                f"{first + self.num_classes - 1}, and ignored pixels are {self.ignore_label}. Complete "
                "dataset.classes, or set zero_is_other=True (classes start at 1) or ignore_label=N of "
                "the dataset"
            )
        return np.where(ignored, IGNORED, classes).astype(np.uint8)


def read_labels(record: dict[str, Any]) -> np.ndarray:
    """The classes of a record with ``sem_seg_file_name`` and, unless they are stored as they are meant,
    ``labelling``: ``(H, W)`` uint8.

    Raises:
        DatasetError: see :meth:`Labelling.read`.
    """
    labelling = record.get("labelling", Labelling(MAX_CLASSES))
    return labelling.read(record["sem_seg_file_name"])


def read_segment_colours(path: str) -> np.ndarray:
    """A COCO panoptic PNG ``(H, W, 3)`` uint8: the segment's id is R + 256 G + 65536 B, 0 is no segment.

    Raises:
        DatasetError: the file can't be read, or is not RGB.
    """
    colours = read_numbers(path)
    if colours.ndim != 3:
        raise DatasetError(f"{path}: a panoptic PNG must be RGB (segment id = R + 256 G + 65536 B)")
    return colours


def segment_ids(colours: np.ndarray) -> np.ndarray:
    """Ids ``(H, W)`` int32 of what :func:`read_segment_colours` gives."""
    wide = colours.astype(np.int32)
    return wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2]


def read_numbers(path: str) -> np.ndarray:
    """See :func:`.stored_numbers`.

    Raises:
        DatasetError: the file can't be read.
    """
    try:
        with open_image(path) as image:
            return stored_numbers(image)
    except BrokenImageError as error:
        raise DatasetError(f"{path}: the label image can't be read ({error})") from error
