"""Masks and boxes of the objects of a record, from instance, semantic or both kinds of truth."""

from typing import Any, Literal, get_args

import torch
from detectron2.structures import BitMasks, PolygonMasks
from torch import Tensor
from torch.nn import functional as F

from ...layers import upload
from ..dino.dino import in_fractions
from ..dino.structures import Targets

Task = Literal["instance", "semantic", "panoptic"]
TASKS: tuple[Task, ...] = get_args(Task)
Size = tuple[int, int]


def mask_boxes(masks: Tensor) -> Tensor:
    """The tightest boxes around masks ``(n, H, W)``: ``(n, 4)`` corners in pixels, zeros around nothing.

    Unlike ``torchvision.ops.masks_to_boxes`` it takes empty masks, and waits for no device.
    """
    corners = []
    for filled in (masks.any(1), masks.any(2)):  # of columns, of rows
        length = filled.shape[1]
        steps = torch.arange(1, length + 1, device=masks.device)
        last = (filled * steps).amax(1)
        first = length - (filled * steps.flip(0)).amax(1)
        corners.append((first.minimum(last), last))
    (x1, x2), (y1, y2) = corners
    return torch.stack((x1, y1, x2, y2), 1).float()


def make_targets(
    record: dict[str, Any], task: Task, size: Size, num_classes: int, things: int, device: torch.device
) -> Targets:
    """The objects of a record.

    Instances come from ``instances`` with ``gt_masks``. A class of ``sem_seg`` ``(H, W)`` is one object. For
    the panoptic task its numbers are those of Panoptic FPN, as in Detectron2: 0 for all things together, then
    the stuff, which becomes the classes after the things. Numbers of no class, such as 255, are ignored.

    Args:
        size: (height, width) of the padded batch, which the masks get.
        num_classes: things and stuff.

    Raises:
        ValueError: the record lacks what the task needs.
    """
    objects = []
    if task != "semantic":
        objects.append(_instances(record, size, device))
    if task != "instance":
        objects.append(_regions(record, size, 0 if task == "semantic" else things, num_classes, device))
    if len(objects) == 1:
        return objects[0]
    masks = torch.cat([o.masks for o in objects if o.masks is not None])
    return Targets(torch.cat([o.classes for o in objects]), torch.cat([o.boxes for o in objects]), masks)


def _instances(record: dict[str, Any], size: Size, device: torch.device) -> Targets:
    instances = _needed(record, "instances")
    if not instances.has("gt_masks") and len(instances):
        raise ValueError(
            f"{record.get('file_name', 'a record')} has no masks to learn from: use data with "
            f"segmentations, and keep dataloader.train.mapper.use_instance_mask=True"
        )
    height, width = instances.image_size
    found = instances.gt_masks if instances.has("gt_masks") else torch.zeros(0, height, width)
    if isinstance(found, PolygonMasks):
        found = BitMasks.from_polygon_masks(found.polygons, height, width)
    masks = upload((found.tensor if isinstance(found, BitMasks) else found).bool(), device)
    boxes = upload(in_fractions(instances.gt_boxes.tensor, (height, width)), device)
    return Targets(upload(instances.gt_classes.long(), device), boxes, _padded(masks, size))


def _regions(
    record: dict[str, Any], size: Size, first: int, num_classes: int, device: torch.device
) -> Targets:
    """What is there is counted where the record is, on the CPU: how many masks there are must be known before
    the device can make them."""
    labels = _needed(record, "sem_seg")
    lowest, number = (1, num_classes - first) if first else (0, num_classes)  # 0: all things
    inside = labels[(labels >= lowest) & (labels < lowest + number)]
    present = torch.bincount(inside.long(), minlength=1).nonzero()[:, 0]
    labels, numbers = upload(labels, device), upload(present, device)
    masks = labels == numbers[:, None, None]
    boxes = in_fractions(mask_boxes(masks), (labels.shape[-2], labels.shape[-1]))
    return Targets(numbers + (first - lowest if first else 0), boxes, _padded(masks, size))


def _needed(record: dict[str, Any], key: str) -> Any:
    if key not in record:
        raise ValueError(
            f"{record.get('file_name', 'a record')} has {', '.join(record)}; the task needs {key!r}: use a "
            f"mapper that gives it, or another model.task"
        )
    return record[key]


def _padded(masks: Tensor, size: Size) -> Tensor:
    return F.pad(masks, (0, size[1] - masks.shape[2], 0, size[0] - masks.shape[1]))
