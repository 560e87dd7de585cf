"""From a dataset record to what a model takes."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

from ..errors import DatasetError
from ..seed import seeded
from .decode import BrokenImageError
from .labels import read_labels
from .read import read_image

_LABELS = ("annotations", "segments", "sem_seg_file_name", "labelling")


def mask_format(record: dict[str, Any]) -> Literal["polygon", "bitmask"]:
    """``bitmask`` when any segmentation of the record is run-length encoded, else ``polygon``; crowds, which
    are no targets, don't count."""
    encoded = any(isinstance(a.get("segmentation"), dict) for a in _objects(record.get("annotations", ())))
    return "bitmask" if encoded else "polygon"


def _objects(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [a for a in annotations if not a.get("iscrowd", 0)]


def read_record(record: dict[str, Any], image_format: str = "RGB") -> np.ndarray:
    """The image of a record, uint8 ``(H, W, 3)``, with its channels in the order of ``image_format``.

    Raises:
        DatasetError: it can't be read, or has another size than the record says.
    """
    name = record["file_name"]
    try:
        image = read_image(name)
    except BrokenImageError as error:
        raise DatasetError(f"{name}: the image can't be read ({error})") from error
    height, width = image.shape[:2]
    known = record.get("width", width), record.get("height", height)
    if known != (width, height):
        raise DatasetError(f"{name}: the image is {width}x{height}, its record says {known[0]}x{known[1]}")
    return image if image_format == "RGB" else image[..., ::-1]


def read_semantic(record: dict[str, Any]) -> np.ndarray:
    """See :func:`.read_labels`.

    Raises:
        DatasetError: the record has no label image.
    """
    if "sem_seg_file_name" not in record:
        raise DatasetError(
            f"{record['file_name']}: it has no sem_seg_file_name, the label image that a semantic head "
            f"learns: name a set that has them, such as coco_2017_train_panoptic_separated"
        )
    return read_labels(record)


def check_format(image_format: str) -> None:
    """
    Raises:
        ValueError: it is no order of channels.
    """
    if image_format not in ("RGB", "BGR"):
        raise ValueError(f"image_format {image_format!r}: choose RGB or BGR")


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))


class _Mapper(DatasetMapper):
    """Detectron2's, with our reader of images, and where an image without objects has the fields of the
    others, empty: there it has no ``gt_masks``, and boxes can't be recomputed from them."""

    use_semantic = False

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        sample = copy.deepcopy(dataset_dict)
        labels = read_semantic(sample) if self.use_semantic else None
        view = T.AugInput(read_record(sample, self.image_format), sem_seg=labels)
        transforms = self.augmentations(view)
        sample["image"] = _tensor(view.image)
        if labels is not None:
            sample["sem_seg"] = torch.as_tensor(view.sem_seg.astype(np.int64))
        self._transform_annotations(sample, transforms, view.image.shape[:2])
        return sample

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
        use_semantic: read the label images as ``sem_seg``, beside the instances: Detectron2's Panoptic FPN.
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
    ):
        if instance_mask_format not in ("auto", "polygon", "bitmask"):
            raise ValueError(
                f"instance_mask_format {instance_mask_format!r}: choose auto, polygon or bitmask"
            )
        check_format(image_format)
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
        for mapper in self.mappers.values():
            mapper.use_semantic = use_semantic
        self.recompute_boxes, self.keep_masks = recompute_boxes, keep_masks

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        kind = self.format
        if kind == "auto":
            kind = "bitmask" if self.recompute_boxes else mask_format(record)
        with seeded(self.seed, position):
            sample = self.mappers[kind]({"annotations": [], **record})
        if not self.keep_masks and sample["instances"].has("gt_masks"):
            sample["instances"].remove("gt_masks")
        return sample


class TestMapper:
    """Evaluation samples: the image in one view, without labels, and the record's size for the results."""

    __test__ = False  # not a test, whatever its name

    def __init__(self, augmentations: Sequence[T.Augmentation], image_format: str = "RGB"):
        check_format(image_format)
        self.augmentations, self.image_format = T.AugmentationList(list(augmentations)), image_format

    def __call__(self, record: dict[str, Any], position: int = 0) -> dict[str, Any]:
        """
        Raises:
            DatasetError: the image can't be read, or has another size than the record says.
        """
        view = T.AugInput(read_record(record, self.image_format))
        self.augmentations(view)
        unlabelled = {k: v for k, v in record.items() if k not in _LABELS}
        return {**unlabelled, "image": _tensor(view.image)}
