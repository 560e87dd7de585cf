"""Ground truth beside prediction, as one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import detection_utils
from detectron2.structures import BoxMode, Instances
from detectron2.utils.visualizer import ColorMode, Visualizer

from .files import save_png

_CAPTION = 22  # pixels


def _colours(count: int) -> list[tuple[float, float, float]]:
    """One well-separated colour a class, 0..1 RGB (golden-ratio hues)."""
    hues = (np.arange(count) * 0.618034) % 1.0
    hsv = np.stack((hues * 179, np.full(count, 220), np.full(count, 255)), 1).astype(np.uint8)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0] / 255.0
    return [(float(r), float(g), float(b)) for r, g, b in rgb]


def _draw(image: np.ndarray, scale: float, metadata: Any, boxes: np.ndarray, masks: Any, classes: Sequence[int], scores: Any) -> np.ndarray:
    names = metadata.get("thing_classes", None) or []
    palette = _colours(max([len(names), *(c + 1 for c in classes)] or [1]))
    visualizer = Visualizer(image, metadata, scale=1.0, instance_mode=ColorMode.SEGMENTATION)
    crowded = len(classes) > 25
    labels = None
    if not crowded:
        known = [names[c] if c < len(names) else str(c) for c in classes]
        labels = known if scores is None else [f"{n} {s:.0%}" for n, s in zip(known, scores, strict=True)]
    drawn = visualizer.overlay_instances(
        boxes=None if crowded and masks is not None else boxes * scale,
        masks=masks,
        labels=labels,
        assigned_colors=[palette[c] for c in classes],
        alpha=0.45,
    )
    return drawn.get_image()


def _truth(record: dict[str, Any], shape: tuple[int, int], scale: float) -> tuple[np.ndarray, Any, list[int]]:
    annotations = [a for a in record.get("annotations", ()) if not a.get("iscrowd", 0)]
    boxes = np.array(
        [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations], dtype=float
    ).reshape(-1, 4)
    masks: list[np.ndarray] | None = None
    if annotations and all(a.get("segmentation") for a in annotations):
        masks = [_bitmask(a["segmentation"], record, shape) for a in annotations]
    return boxes, masks, [a["category_id"] for a in annotations]


def _bitmask(segmentation: Any, record: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    import pycocotools.mask as mask_util

    height, width = record["height"], record["width"]
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask_util.frPyObjects(segmentation, height, width)
    return _resize_mask(mask_util.decode(segmentation), shape)


def _resize_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST).astype(bool)


def _captioned(image: np.ndarray, text: str) -> np.ndarray:
    strip = np.full((_CAPTION, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, text, (4, _CAPTION - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate((strip, image))


def prediction_grid(
    records: Sequence[dict[str, Any]],
    predictions: Sequence[dict[str, Any]],
    metadata: Any,
    score_threshold: float = 0.5,
    columns: int = 2,
    side: int = 400,
) -> np.ndarray:
    """RGB uint8 picture; each image twice, ground truth left and prediction right, ``columns`` such pairs a row.

    Args:
        records: dataset dicts with ``file_name``, ``width``, ``height`` and, where known, ``annotations``.
        predictions: Detectron2 outputs of the same images, ``{"instances": ...}``, at their original size.
        side: longer side of a drawn image; smaller ones are enlarged, so that labels can be read.
    """
    if not records:
        raise ValueError("no record to draw")
    pairs = []
    for record, prediction in zip(records, predictions, strict=True):
        image = detection_utils.read_image(record["file_name"], "RGB")
        scale = side / max(image.shape[:2])
        how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
        shape = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
        image = cv2.resize(image, shape[::-1], interpolation=how)
        boxes, masks, classes = _truth(record, shape, scale)
        truth = _draw(image, scale, metadata, boxes, masks, classes, None)
        found: Instances = prediction["instances"].to("cpu")
        found = found[found.scores >= score_threshold]
        found_masks = [_resize_mask(m.numpy(), shape) for m in found.pred_masks] if found.has("pred_masks") else None
        guess = _draw(
            image,
            scale,
            metadata,
            found.pred_boxes.tensor.float().numpy(),
            found_masks or None,
            found.pred_classes.tolist(),
            found.scores.tolist(),
        )
        halves = (_captioned(truth, f"ground truth ({len(classes)})"), _captioned(guess, f"prediction ({len(found)})"))
        pairs.append(np.concatenate(halves, 1))
    height, width = max(p.shape[0] for p in pairs) + 8, max(p.shape[1] for p in pairs) + 8
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    canvas = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, pair in enumerate(pairs):
        y, x = i // columns * height, i % columns * width
        canvas[y : y + pair.shape[0], x : x + pair.shape[1]] = pair
    return canvas


def save_prediction_grid(path: str | Path, records: Sequence, predictions: Sequence, metadata: Any, **options: Any) -> None:
    """Write :func:`prediction_grid` as PNG."""
    save_png(Path(path), prediction_grid(records, predictions, metadata, **options))
