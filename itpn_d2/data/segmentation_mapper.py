"""From a record with label images to what a model of semantic or panoptic segmentation takes in training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances

from ..errors import DatasetError
from ..seed import seeded
from .covered import bit_masks, boxes_around, covered
from .decoder import Decoder, is_quick
from .labels import IGNORED, read_labels, read_segment_colours, segment_ids
from .mapper import check_format, read_record
from .view import View


class SemanticMapper:
    """Augmented images with ``sem_seg`` ``(H, W)`` int64; all randomness of a sample comes from ``seed`` and
    its position, as in :class:`.TrainMapper`.

    Args:
        augmentations: Detectron2 augmentations, in order. Those that fill in pixels of their own have to be
            told to fill label images with 255.
        decoder: the library that decodes and resizes images; see :mod:`.decoder`.
    """

    def __init__(
        self,
        augmentations: Sequence[T.Augmentation],
        image_format: str = "RGB",
        seed: int = 0,
        decoder: Decoder = "auto",
    ):
        check_format(image_format)
        is_quick(decoder)
        self.decoder: Decoder = decoder
        self.augmentations = T.AugmentationList(list(augmentations))
        self.image_format, self.seed = image_format, seed

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        """
        Raises:
            DatasetError: the image or its labels can't be read, or they differ in size.
        """
        record = dict(record)
        image = read_record(record, self.image_format, self.decoder)
        labels = self.read(record)
        if labels.shape[:2] != image.shape[:2]:
            sizes = [f"{width}x{height}" for height, width in (image.shape[:2], labels.shape[:2])]
            raise DatasetError(
                f"{record['file_name']}: the image is {sizes[0]}, but its labels are {sizes[1]}"
            )
        view = View(image, sem_seg=labels, decoder=self.decoder)
        with seeded(self.seed, position):
            self.augmentations(view)
        assert view.sem_seg is not None
        return {**self.targets(record, view.sem_seg), "image": view.tensor()}

    def read(self, record: dict[str, Any]) -> np.ndarray:
        """The label image ``(H, W)`` or ``(H, W, 3)`` uint8, as augmentations take it."""
        return read_labels(record)

    def targets(self, record: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
        """The record with the targets made from its augmented label image.

        Args:
            labels: ``(H, W)`` integers, which become ``sem_seg``, int64.
        """
        return {**record, "sem_seg": torch.as_tensor(labels.astype(np.int64))}


class PanopticMapper(SemanticMapper):
    """As :class:`SemanticMapper`, with ``instances`` (boxes, bit masks, classes) of the things; in
    ``sem_seg`` all things are 0 and stuff counts from 1.

    Crowds are no instances; pixels of no segment and of crowds of stuff are ignored.
    """

    def read(self, record: dict[str, Any]) -> np.ndarray:
        """The image ``(H, W, 3)`` uint8 whose colours are the ids of segments."""
        return read_segment_colours(record["pan_seg_file_name"])

    def targets(self, record: dict[str, Any], labels: np.ndarray) -> dict[str, Any]:
        """The record with ``sem_seg`` ``(H, W)`` and ``instances`` in place of segments and annotations."""
        ids = segment_ids(labels)
        semantic = np.full(ids.shape, IGNORED, np.int64)
        masks, classes = [], []
        for segment in record["segments"]:
            mask = ids == segment["id"]
            if segment["isthing"]:
                semantic[mask] = 0
                if not segment["iscrowd"] and mask.any():  # else augmentation has left nothing of it
                    masks.append(mask)
                    classes.append(segment["category_id"])
            elif not segment["iscrowd"]:
                semantic[mask] = segment["category_id"]
        things = [covered(mask, *ids.shape) for mask in masks]
        instances = Instances(
            ids.shape, gt_masks=bit_masks(things, *ids.shape), gt_boxes=boxes_around(things)
        )
        instances.gt_classes = torch.tensor(classes, dtype=torch.int64)
        kept = {k: v for k, v in record.items() if k not in ("segments", "annotations")}
        return {**kept, "sem_seg": torch.as_tensor(semantic), "instances": instances}
