"""Mappers from a dataset record to the input of a model."""

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T

from ..errors import DatasetError
from ..seed import seeded
from .decode import BrokenImageError
from .decoder import Decoder, is_quick
from .instances import Targets, mask_format, objects
from .labels import read_labels
from .read import read_image
from .view import View

_LABELS = ("annotations", "segments", "sem_seg_file_name", "labelling")


def read_record(record: dict[str, Any], image_format: str = "RGB", decoder: Decoder = "auto") -> np.ndarray:
    """The image of a record, uint8 ``(H, W, 3)``, with its channels in the order of ``image_format``, read by
    the library that ``decoder`` names.

    Raises:
        DatasetError: it can't be read, or has another size than the record says.
    """
    name = record["file_name"]
    try:
        image = read_image(name, decoder=decoder)
    except BrokenImageError as error:
        raise DatasetError(f"{name}: the image can't be read ({error})") from error
    height, width = image.shape[:2]
    known = record.get("width", width), record.get("height", height)
    if known != (width, height):
        raise DatasetError(
            f"{name}: the image is {width}x{height}, but its record says {known[0]}x{known[1]}"
        )
    return image if image_format == "RGB" else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def read_semantic(record: dict[str, Any]) -> np.ndarray:
    """See :func:`.read_labels`.

    Raises:
        DatasetError: the record has no label image.
    """
    if "sem_seg_file_name" not in record:
        raise DatasetError(
            f"{record['file_name']}: its record has no sem_seg_file_name, the label image from which a "
            "semantic head learns: use a dataset that has them, such as "
            "coco_2017_train_panoptic_separated"
        )
    return read_labels(record)


def check_format(image_format: str) -> None:
    """
    Raises:
        ValueError: it is no order of channels.
    """
    if image_format not in ("RGB", "BGR"):
        raise ValueError(f"image_format {image_format!r}: choose RGB or BGR")


class TrainMapper:
    """Augmented training samples, the same for any number of workers or processes, and after a resume: all
    randomness of a sample comes from ``seed`` and its position in the sequence of samples.

    Args:
        augmentations: Detectron2 augmentations, in order.
        use_keypoint: read keypoints; ``keypoint_flip`` is the index of each keypoint in a flipped image.
        use_instance_mask: read segmentations. Without them records may have none.
        instance_mask_format: ``polygon`` (a record with RLE is an error), ``bitmask``, or ``auto``: bitmask
            where a record holds RLE or where boxes are recomputed, which polygons cut by a crop do badly.
        recompute_boxes: tightest boxes around the augmented masks.
        keep_masks: pass the masks on; False if only boxes are made from them, since the masks of 50 objects
            in an image of 1536 pixels take a hundred megabytes.
        use_semantic: read the label images as ``sem_seg``, beside the instances: Detectron2's Panoptic FPN.
        decoder: the library that decodes and resizes; see :mod:`.decoder`.

    Raises:
        ValueError: ``instance_mask_format`` is none of these.
    """

    def __init__(
        self,
        augmentations: Sequence[T.Augmentation],
        use_instance_mask: bool = True,
        instance_mask_format: Literal["auto", "polygon", "bitmask"] = "auto",
        recompute_boxes: bool = False,
        image_format: str = "RGB",
        seed: int = 0,
        use_keypoint: bool = False,
        keypoint_flip: Sequence[int] | None = None,
        keep_masks: bool = True,
        use_semantic: bool = False,
        decoder: Decoder = "auto",
    ):
        if instance_mask_format not in ("auto", "polygon", "bitmask"):
            raise ValueError(
                f"instance_mask_format {instance_mask_format!r}: choose auto, polygon or bitmask"
            )
        check_format(image_format)
        is_quick(decoder)
        self.augmentations = T.AugmentationList(list(augmentations))
        self.use_instance_mask, self.format = use_instance_mask, instance_mask_format
        self.recompute_boxes, self.keep_masks = use_instance_mask and recompute_boxes, keep_masks
        self.targets = Targets(
            use_instance_mask, self.recompute_boxes, keep_masks, use_keypoint, keypoint_flip
        )
        self.image_format, self.seed, self.use_semantic = image_format, seed, use_semantic
        self.decoder: Decoder = decoder

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        """
        Raises:
            DatasetError: the image or its labels can't be read, or the image has another size than the record
                says.
        """
        kind = self.format
        if kind == "auto":
            kind = "bitmask" if self.recompute_boxes else mask_format(record)
        sample = {k: v for k, v in record.items() if k != "annotations"}
        labels = read_semantic(record) if self.use_semantic else None
        view = View(
            read_record(record, self.image_format, self.decoder), sem_seg=labels, decoder=self.decoder
        )
        with seeded(self.seed, position):
            transforms = self.augmentations(view)
            size = view.image.shape[:2]
            kept = objects(record.get("annotations", ()))
            sample["instances"] = self.targets(kept, transforms, size, kind)
        sample["image"] = view.tensor()
        if view.sem_seg is not None:
            sample["sem_seg"] = torch.as_tensor(view.sem_seg.astype(np.int64))
        return sample


class TestMapper:
    """Evaluation samples: the image in one view, without labels, and the record's size for the results."""

    __test__ = False  # not a test, whatever its name

    def __init__(
        self,
        augmentations: Sequence[T.Augmentation],
        image_format: str = "RGB",
        decoder: Decoder = "auto",
    ):
        check_format(image_format)
        is_quick(decoder)
        self.augmentations, self.image_format = T.AugmentationList(list(augmentations)), image_format
        self.decoder: Decoder = decoder

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        """
        Raises:
            DatasetError: the image can't be read, or has another size than the record says.
        """
        view = View(read_record(record, self.image_format, self.decoder), decoder=self.decoder)
        self.augmentations(view)
        unlabelled = {k: v for k, v in record.items() if k not in _LABELS}
        return {**unlabelled, "image": view.tensor()}
