"""Ground truth beside prediction, as one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.structures import BoxMode, Instances
from detectron2.utils.visualizer import ColorMode, GenericMask, Visualizer

from ..data.read import read_image
from .files import captioned, class_colours, grid, palette, save_png
from .label_grid import label_grid
from .segmentation_grid import segmentation_grid

_DOT = 3  # pixels
_CROWDED = 25  # objects: with more of them, labels would hide the picture


@dataclass
class _Objects:
    """What to draw, in pixels of the drawn image: boxes (n, 4) XYXY, masks n times bool (h, w) or None."""

    boxes: np.ndarray
    masks: list[np.ndarray] | None
    classes: list[int]
    scores: list[float] | None = None
    keypoints: np.ndarray | None = None  # (n, K, 3) x, y, and whether to draw it


@dataclass
class _Frame:
    """From the original image, ``size`` (h, w), to the drawn one, ``shape`` (h, w)."""

    size: tuple[int, int]
    shape: tuple[int, int]

    def boxes(self, boxes: Any) -> np.ndarray:
        y, x = (drawn / original for drawn, original in zip(self.shape, self.size, strict=True))
        return np.asarray(boxes, dtype=float).reshape(-1, 4) * (x, y, x, y)

    def keypoints(self, points: Any) -> np.ndarray:
        y, x = (drawn / original for drawn, original in zip(self.shape, self.size, strict=True))
        return np.asarray(points, dtype=float) * (x, y, 1)

    def mask(self, segmentation: Any) -> np.ndarray:
        """Polygons, RLE (compressed or not) or a bitmask; an absent one is empty."""
        if isinstance(segmentation, dict):
            rle = segmentation
            if isinstance(rle["counts"], list):
                rle = mask_util.frPyObjects(rle, *rle["size"])
            mask = mask_util.decode(rle)
        elif segmentation is None or isinstance(segmentation, list):
            # fewer than six numbers are no polygon; pycocotools would take four for a box
            polygons = [np.asarray(p, dtype=float).tolist() for p in segmentation or () if len(p) >= 6]
            mask = np.zeros(self.size, np.uint8)
            if polygons:
                mask = mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, *self.size)))
        else:
            mask = np.asarray(segmentation)
        return cv2.resize(mask.astype(np.uint8), self.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(
            bool
        )


def _truth(record: dict[str, Any], frame: _Frame) -> _Objects:
    annotations = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    segmentations = [a.get("segmentation") for a in annotations]
    some = any(s is not None and len(s) for s in segmentations)
    masks = [frame.mask(s) for s in segmentations] if some else None
    points = [np.reshape(a["keypoints"], (-1, 3)) for a in annotations if "keypoints" in a]
    keypoints = frame.keypoints(points) if points and len(points) == len(annotations) else None
    return _Objects(frame.boxes(boxes), masks, [a["category_id"] for a in annotations], None, keypoints)


def _found(instances: Instances, frame: _Frame, score_threshold: float) -> _Objects:
    instances = instances.to("cpu")
    instances = instances[instances.scores >= score_threshold]
    masks = None
    if instances.has("pred_masks"):
        masks = [frame.mask(m) for m in instances.pred_masks]
    keypoints = None
    if instances.has("pred_keypoints"):
        keypoints = frame.keypoints(instances.pred_keypoints.float().numpy())
    return _Objects(
        frame.boxes(instances.pred_boxes.tensor.float().numpy()),
        masks,
        instances.pred_classes.tolist(),
        instances.scores.tolist(),
        keypoints,
    )


def draw_instances(
    image: np.ndarray, instances: Instances, metadata: Any, score_threshold: float, size: tuple[int, int]
) -> np.ndarray:
    """Boxes, masks, names and scores of detections over an RGB uint8 image; ``size`` is the (height, width)
    that their coordinates are for, where the image was resized since."""
    frame = _Frame(size, (image.shape[0], image.shape[1]))
    return _draw(image, metadata, _found(instances, frame, score_threshold))


def _draw(image: np.ndarray, metadata: Any, objects: _Objects) -> np.ndarray:
    if not objects.classes:
        return image
    names = metadata.get("thing_classes", None) or []
    known = class_colours(metadata, "thing", max(len(names), *(c + 1 for c in objects.classes), 1))
    colours = [known[c] for c in objects.classes]
    visualizer = Visualizer(image, metadata, scale=1.0, instance_mode=ColorMode.SEGMENTATION)
    if objects.masks is not None and image.shape[1] != 2:  # Detectron2 refuses masks of two columns
        pairs = zip(objects.masks, colours, strict=True)
        for mask, colour in sorted(pairs, key=lambda pair: -int(pair[0].sum())):
            _draw_mask(visualizer, mask, colour)
    crowded = len(objects.classes) > _CROWDED
    if crowded and objects.masks is not None:
        return visualizer.output.get_image()
    labels = None
    if not crowded:
        labels = [names[c] if c < len(names) else str(c) for c in objects.classes]
        if objects.scores is not None:
            labels = [f"{name} {score:.0%}" for name, score in zip(labels, objects.scores, strict=True)]
    drawn = visualizer.overlay_instances(
        boxes=objects.boxes, labels=labels, assigned_colors=colours, alpha=0.9
    )
    return drawn.get_image()


def _dotted(image: np.ndarray, objects: _Objects) -> np.ndarray:
    """With keypoints: a colour each, the same for all objects."""
    if objects.keypoints is None:
        return image
    image = np.ascontiguousarray(image)
    colours = (np.array(palette(objects.keypoints.shape[1])) * 255).tolist()
    for points in objects.keypoints:
        for (x, y, shown), colour in zip(points.tolist(), colours, strict=True):
            if shown > 0:
                cv2.circle(image, (round(x), round(y)), _DOT + 1, (0, 0, 0), -1, cv2.LINE_AA)
                cv2.circle(image, (round(x), round(y)), _DOT, colour, -1, cv2.LINE_AA)
    return image


def _draw_mask(visualizer: Visualizer, mask: np.ndarray, colour: tuple[float, float, float]) -> None:
    visualizer.draw_binary_mask(mask, colour, alpha=0.45, area_threshold=0)
    outline = GenericMask(mask.astype(np.uint8), *mask.shape)
    if outline.has_holes:  # drawn as pixels, without an edge; as polygons the holes would be filled
        for polygon in outline.polygons:
            visualizer.draw_polygon(polygon.reshape(-1, 2), color=colour, alpha=0.0)


def _pair(
    record: dict, prediction: dict, metadata: Any, score_threshold: float, side: int
) -> tuple[np.ndarray, np.ndarray]:
    image = read_image(record["file_name"])
    height, width = image.shape[:2]
    scale = side / max(height, width)
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    image = cv2.resize(np.ascontiguousarray(image), shape[::-1], interpolation=how)
    frame = _Frame((height, width), shape)
    truth, found = _truth(record, frame), _found(prediction["instances"], frame, score_threshold)
    if found.keypoints is None:  # a model without keypoints is not compared by them
        truth.keypoints = None
    left = captioned(_dotted(_draw(image, metadata, truth), truth), f"ground truth ({len(truth.classes)})")
    right = captioned(_dotted(_draw(image, metadata, found), found), f"prediction ({len(found.classes)})")
    return left, right


def prediction_grid(
    records: Sequence[dict[str, Any]],
    predictions: Sequence[dict[str, Any]],
    metadata: Any,
    score_threshold: float = 0.5,
    columns: int = 2,
    side: int = 400,
) -> np.ndarray:
    """RGB uint8 picture; each image twice, ground truth left and prediction right, ``columns`` such pairs a
    row.

    Args:
        records: dataset dicts with ``file_name`` and, where known, ``annotations``.
        predictions: Detectron2 outputs of the same images, ``{"instances": ...}``, at their original size.
        metadata: of the dataset; ``thing_classes`` names the classes.
        side: longer side of a drawn image in pixels; smaller ones are enlarged, so that labels can be read.

    Raises:
        ValueError: there is nothing to draw, or not one prediction for each record.
    """
    if not records:
        raise ValueError("no record to draw")
    if len(records) != len(predictions):
        raise ValueError(
            f"{len(records)} records with {len(predictions)} predictions: one for each is needed"
        )
    pairs = [
        _pair(record, prediction, metadata, score_threshold, side)
        for record, prediction in zip(records, predictions, strict=True)
    ]
    return grid(pairs, columns)


def save_prediction_grid(
    path: str | Path,
    records: Sequence[dict[str, Any]],
    predictions: Sequence[dict[str, Any]],
    metadata: Any,
    **options: Any,
) -> None:
    """Write :func:`prediction_grid`, for a classifier's scores :func:`.label_grid`, or for semantic and
    panoptic maps :func:`.segmentation_grid`, with ``options`` as PNG, whole or not at all."""
    if predictions and "scores" in predictions[0]:
        picture = label_grid(records, predictions, metadata.thing_classes, **options)
    elif predictions and {"panoptic_seg", "sem_seg"} & predictions[0].keys():
        picture = segmentation_grid(records, predictions, metadata, **options)
    else:
        picture = prediction_grid(records, predictions, metadata, **options)
    save_png(Path(path), picture)
