"""The targets of an augmented image: its annotations as ``Instances``."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pycocotools.mask as mask_util
import torch
from detectron2.data.detection_utils import transform_keypoint_annotations
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks

from .covered import bit_masks, boxes_around, covered

MaskFormat = Literal["polygon", "bitmask"]
_SMALLEST = 1e-5  # pixels of width and height: Detectron2's bound of an empty box


def objects(annotations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The annotations that are no crowds."""
    return [a for a in annotations if not a.get("iscrowd", 0)]


def mask_format(record: dict[str, Any]) -> MaskFormat:
    """``bitmask`` when any segmentation of the record is run-length encoded, else ``polygon``; crowds, which
    are no targets, don't count."""
    encoded = any(isinstance(a.get("segmentation"), dict) for a in objects(record.get("annotations", ())))
    return "bitmask" if encoded else "polygon"


class Targets:
    """Makes the ``Instances`` that Detectron2's mapper makes. An image without objects has the same fields,
    empty: there it has no ``gt_masks``, and boxes can't be recomputed from them.

    Args:
        use_masks: read segmentations; without them annotations may have none.
        recompute_boxes: tightest boxes around the masks.
        keep_masks: hand the masks on. Bit masks that only boxes are made from are never drawn.
        use_keypoint: read keypoints; ``keypoint_flip`` says which keypoint each one is in a mirror.
    """

    def __init__(
        self,
        use_masks: bool = True,
        recompute_boxes: bool = False,
        keep_masks: bool = True,
        use_keypoint: bool = False,
        keypoint_flip: Sequence[int] | None = None,
    ):
        self.use_masks, self.recompute_boxes, self.keep_masks = use_masks, recompute_boxes, keep_masks
        self.use_keypoint = use_keypoint
        self.keypoint_flip = None if keypoint_flip is None else np.array(keypoint_flip)

    def __call__(
        self, annotations: Sequence[dict[str, Any]], transforms: Any, size: tuple[int, int], kind: MaskFormat
    ) -> Instances:
        """
        Args:
            annotations: those that are no crowds.
            transforms: what was done to the image.
            size: (height, width) that it has now.
            kind: of masks.

        Raises:
            ValueError: ``kind`` is ``polygon``, and a segmentation is run-length encoded.
        """
        if not annotations:
            return self._none(size, kind)
        found = Instances(size, gt_boxes=_boxes(annotations, transforms, size))
        found.gt_classes = torch.tensor([int(a["category_id"]) for a in annotations], dtype=torch.int64)
        if self.use_keypoint and "keypoints" in annotations[0]:
            flip = self.keypoint_flip
            points = [
                transform_keypoint_annotations(a["keypoints"], transforms, size, flip) for a in annotations
            ]
            found.gt_keypoints = Keypoints(points)
        if not self.use_masks or "segmentation" not in annotations[0]:
            return found[found.gt_boxes.nonempty(_SMALLEST)]
        segments = [_segment(a["segmentation"], transforms) for a in annotations]
        return self._with_polygons(found, segments) if kind == "polygon" else self._with_bits(found, segments)

    def _with_polygons(self, found: Instances, segments: list[Any]) -> Instances:
        if any(isinstance(s, np.ndarray) for s in segments):
            raise ValueError(
                "a segmentation is run-length encoded, which instance_mask_format=polygon does not "
                "support: choose auto or bitmask"
            )
        masks = PolygonMasks(segments)
        if self.recompute_boxes:
            found.gt_boxes = masks.get_bounding_boxes()
        keep = found.gt_boxes.nonempty(_SMALLEST) & masks.nonempty()
        if self.keep_masks:
            found.gt_masks = masks
        return found[keep]

    def _with_bits(self, found: Instances, segments: list[Any]) -> Instances:
        seen = [covered(s, *found.image_size) for s in segments]
        around = boxes_around(seen)
        if self.recompute_boxes:
            found.gt_boxes = around
        keep = found.gt_boxes.nonempty(_SMALLEST) & around.nonempty(_SMALLEST)
        found = found[keep]
        if self.keep_masks:
            kept = [s for s, k in zip(seen, keep.tolist(), strict=True) if k]
            found.gt_masks = bit_masks(kept, *found.image_size)
        return found

    def _none(self, size: tuple[int, int], kind: MaskFormat) -> Instances:
        found = Instances(
            size, gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0, dtype=torch.int64)
        )
        if self.use_masks and self.keep_masks:
            found.gt_masks = BitMasks(torch.zeros(0, *size)) if kind == "bitmask" else PolygonMasks([])
        if self.use_keypoint and self.keypoint_flip is not None:
            found.gt_keypoints = Keypoints(torch.zeros(0, len(self.keypoint_flip), 3))
        return found


def _boxes(annotations: Sequence[dict[str, Any]], transforms: Any, size: tuple[int, int]) -> Boxes:
    """The annotated boxes as the image has them now, all in one go, cut at its borders."""
    given = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    moved = transforms.apply_box(np.array(given)).clip(min=0)
    return Boxes(np.minimum(moved, (size + size)[::-1]))


def _segment(segmentation: Any, transforms: Any) -> list[np.ndarray] | np.ndarray:
    """Polygons ``[(2n,), ...]``, or the mask ``(H, W)`` of run lengths."""
    if isinstance(segmentation, dict):
        return transforms.apply_segmentation(mask_util.decode(segmentation))
    polygons = [np.asarray(p).reshape(-1, 2) for p in segmentation]
    return [p.reshape(-1) for p in transforms.apply_polygons(polygons)]
