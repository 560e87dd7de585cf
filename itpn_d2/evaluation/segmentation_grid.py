"""True beside predicted classes, or segments, as one picture."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ..data.labels import read_labels, read_segment_colours, segment_ids
from ..data.read import read_image
from .files import captioned, grid, palette

_STRENGTH = 0.6  # of the colours over the picture
_EDGE = 255
_Map = tuple[np.ndarray, np.ndarray | None]  # classes, and segments where they are told apart, (H, W)


def segmentation_grid(
    records: Sequence[dict[str, Any]],
    predictions: Sequence[dict[str, Any]],
    metadata: Any,
    columns: int = 2,
    side: int = 400,
) -> np.ndarray:
    """RGB uint8 picture: each image with its true classes left and the predicted ones right; pixels without a
    class keep the picture's colours, white lines are the borders of segments.

    Args:
        records: with ``file_name`` and ``sem_seg_file_name`` or ``pan_seg_file_name``.
        predictions: of the same images at their size, ``{"panoptic_seg": (ids, segments)}`` or ``{"sem_seg":
            (num_classes, H, W)}``.
        metadata: of the dataset.
        side: longer side of a drawn image, in pixels.

    Raises:
        ValueError: there is nothing to draw, or not one prediction for each record.
    """
    if not records or len(records) != len(predictions):
        raise ValueError(
            f"{len(records)} records with {len(predictions)} predictions: one for each is needed"
        )
    things = len(metadata.get("thing_classes", ()))
    colours = (np.array(palette(things + len(metadata.stuff_classes))) * 255).astype(np.uint8)
    pairs = []
    for record, prediction in zip(records, predictions, strict=True):
        image = read_image(record["file_name"])
        truth: _Map
        found: _Map
        if "panoptic_seg" in prediction:
            truth, found = _true_segments(record, things), _found_segments(prediction["panoptic_seg"], things)
        else:
            truth = read_labels(record), None
            found = prediction["sem_seg"].argmax(0).cpu().numpy(), None
        left, right = (_painted(image, *maps, colours, side) for maps in (truth, found))
        pairs.append((captioned(left, "ground truth"), captioned(right, "prediction")))
    return grid(pairs, columns)


def _painted(
    image: np.ndarray, classes: np.ndarray, ids: np.ndarray | None, colours: np.ndarray, side: int
) -> np.ndarray:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(image, shape, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    classes = cv2.resize(classes.astype(np.uint16), shape, interpolation=cv2.INTER_NEAREST)
    known = classes < len(colours)
    paint = colours[np.where(known, classes, 0)]
    painted = np.where(known[..., None], (1 - _STRENGTH) * image + _STRENGTH * paint, image).astype(np.uint8)
    if ids is not None:
        ids = cv2.resize(ids.astype(np.float64), shape, interpolation=cv2.INTER_NEAREST)
        border = np.zeros(ids.shape, bool)
        border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
        border[1:] |= ids[1:] != ids[:-1]
        painted[border] = _EDGE
    return painted


def _true_segments(record: dict[str, Any], things: int) -> _Map:
    ids = segment_ids(read_segment_colours(record["pan_seg_file_name"]))
    return _classes(ids, record["segments"], things), ids


def _found_segments(found: Any, things: int) -> _Map:
    ids = found[0].cpu().numpy()
    return _classes(ids, found[1], things), ids


def _classes(ids: np.ndarray, segments: Sequence[dict[str, Any]], things: int) -> np.ndarray:
    """A number for the class of every pixel: things, then stuff; far above them where there is no segment."""
    classes = np.full(ids.shape, np.iinfo(np.uint16).max, np.uint16)
    for segment in segments:
        offset = 0 if segment["isthing"] else things
        classes[ids == segment["id"]] = segment["category_id"] + offset
    return classes
