"""From a dataset record to what a model takes."""

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from ..errors import DatasetError

_LABELS = ("annotations", "segments", "sem_seg_file_name", "labelling")


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Python's, NumPy's and torch's (CPU) random state from ``key`` within the block, as it was after it."""
    outer = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    words = np.random.SeedSequence([k & 0xFFFFFFFF for k in key]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(outer[0])
        np.random.set_state(outer[1])
        torch.default_generator.set_state(outer[2])


def mask_format(record: dict[str, Any]) -> Literal["polygon", "bitmask"]:
    """``bitmask`` when any segmentation of the record is run-length encoded, else ``polygon``; crowds, which
    are no targets, don't count."""
    encoded = any(isinstance(a.get("segmentation"), dict) for a in _objects(record.get("annotations", ())))
    return "bitmask" if encoded else "polygon"


def _objects(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [a for a in annotations if not a.get("iscrowd", 0)]


class _Mapper(DatasetMapper):
    """Detectron2's, where an image without objects has the fields of the others, empty: there it has no
    ``gt_masks``, and boxes can't be recomputed from them."""

    def _transform_annotations(
        self, dataset_dict: dict[str, Any], transforms: Any, image_shape: tuple[int, int]
    ) -> None:
        if _objects(dataset_dict["annotations"]):
            super()._transform_annotations(dataset_dict, transforms, image_shape)
            return
        del dataset_dict["annotations"]
        instances = Instances(
            image_shape,
            gt_boxes=Boxes(torch.zeros(0, 4)),
            gt_classes=torch.zeros(0, dtype=torch.int64),
        )
        if self.use_instance_mask:
            bits = self.instance_mask_format == "bitmask"
            instances.gt_masks = BitMasks(torch.zeros(0, *image_shape)) if bits else PolygonMasks([])
        if self.use_keypoint and self.keypoint_hflip_indices is not None:
            instances.gt_keypoints = Keypoints(torch.zeros(0, len(self.keypoint_hflip_indices), 3))
        dataset_dict["instances"] = instances


class TrainMapper:
    """Augmented training samples, the same for any number of workers or processes, and after a resume: all
    randomness of a sample comes from ``seed`` and its position in the sequence of samples.

    Args:
        augmentations: Detectron2 augmentations, in order.
        use_keypoint: read keypoints; ``keypoint_flip`` says which keypoint each one is in a mirror.
        use_instance_mask: read segmentations. Without them records may have none.
        instance_mask_format: ``polygon`` (a record with RLE is an error), ``bitmask``, or ``auto``: bitmask
            where a record holds RLE or where boxes are recomputed, which polygons cut by a crop do badly.
        recompute_boxes: tightest boxes around the augmented masks.
        keep_masks: hand the masks on; False where only boxes are made from them, since 50 objects in an image
            of 1536 pixels have a hundred megabytes.
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
    ):
        if instance_mask_format not in ("auto", "polygon", "bitmask"):
            raise ValueError(
                f"instance_mask_format {instance_mask_format!r}: choose auto, polygon or bitmask"
            )
        self.seed, self.use_instance_mask, self.format = seed, use_instance_mask, instance_mask_format
        self.mappers = {
            kind: _Mapper(
                is_train=True,
                augmentations=list(augmentations),
                image_format=image_format,
                use_instance_mask=use_instance_mask,
                instance_mask_format=kind,
                recompute_boxes=use_instance_mask and recompute_boxes,
                use_keypoint=use_keypoint,
                keypoint_hflip_indices=None if keypoint_flip is None else np.array(keypoint_flip),
            )
            for kind in ("polygon", "bitmask")
        }
        self.recompute_boxes, self.keep_masks = recompute_boxes, keep_masks

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        kind = self.format
        if kind == "auto":
            kind = "bitmask" if self.recompute_boxes else mask_format(record)
        try:
            with seeded(self.seed, position):
                sample = self.mappers[kind]({"annotations": [], **copy.deepcopy(record)})
        except (OSError, SyntaxError) as error:  # what Pillow raises on broken files
            raise DatasetError(f"{record.get('file_name')}: the image can't be read ({error})") from error
        if not self.keep_masks and sample["instances"].has("gt_masks"):
            sample["instances"].remove("gt_masks")
        return sample


class TestMapper:
    """Evaluation samples: the image in one view, without labels, and the record's size for the results."""

    __test__ = False  # not a test, whatever its name

    def __init__(self, augmentations: Sequence[T.Augmentation], image_format: str = "RGB"):
        self.mapper = DatasetMapper(
            is_train=False, augmentations=list(augmentations), image_format=image_format
        )

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        unlabelled = {k: v for k, v in record.items() if k not in _LABELS}
        try:
            return self.mapper(unlabelled)
        except (OSError, SyntaxError) as error:
            raise DatasetError(f"{record.get('file_name')}: the image can't be read ({error})") from error
