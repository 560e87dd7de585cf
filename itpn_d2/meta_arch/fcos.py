"""Detectron2's FCOS, for training images on which augmentation has left no object as well."""

from typing import Any

import torch
from detectron2.modeling.meta_arch.fcos import FCOS as Detectron2FCOS
from detectron2.structures import Boxes, Instances

_FAR = -1e6  # pixels: no location lies within a box there


class FCOS(Detectron2FCOS):
    """FCOS (Tian et al., ICCV'19). Detectron2 0.6 can't match locations with no box at all; an image without
    one gets a box that is out of sight, so that all of it is background."""

    def label_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]) -> Any:
        """Labels and boxes of every location of every image; arguments as of Detectron2's."""
        return super().label_anchors(anchors, [g if len(g) else _out_of_sight(g) for g in gt_instances])


def _out_of_sight(empty: Instances) -> Instances:
    boxes = empty.gt_boxes.tensor
    return Instances(
        empty.image_size,
        gt_boxes=Boxes(boxes.new_tensor([[_FAR, _FAR, _FAR + 1, _FAR + 1]])),
        gt_classes=torch.zeros(1, dtype=torch.int64, device=boxes.device),
    )
