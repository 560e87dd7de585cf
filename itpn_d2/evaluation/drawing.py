"""Drawing the predictions of a model over the image."""

from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.utils.visualizer import Visualizer

from .files import class_colours
from .visualize import draw_instances

_STRENGTH = 0.55  # of a segment's colour over the image
_SMALLEST = 0.002  # of the image: smaller segments get no name


def draw_prediction(
    image: np.ndarray,
    output: dict[str, Any],
    metadata: Metadata,
    score_threshold: float = 0.5,
    min_side: int = 0,
) -> np.ndarray:
    """RGB uint8 picture: boxes, masks and keypoints with class and score; semantic and panoptic segments with
    names; or the best classes of a classifier.

    Args:
        image: RGB uint8 ``(H, W, 3)`` of the size that ``output`` is for.
        output: of one image, as Detectron2's models give it.
        metadata: names and colours of the classes.
        score_threshold: of the instances that are drawn.
        min_side: smaller images are enlarged until their longer side has so many pixels, so that names can be
            read.
    """
    height, width = image.shape[:2]
    scale = max(1.0, min_side / max(height, width))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    drawn = image.copy()
    if scale > 1:
        drawn = cv2.resize(drawn, shape[::-1], interpolation=cv2.INTER_CUBIC)
    if "panoptic_seg" in output:
        return _panoptic(drawn, output, metadata)
    if "sem_seg" in output:
        drawn = draw_labels(drawn, semantic_map(output), metadata)
    if "instances" in output:
        instances = output["instances"].to("cpu")
        drawn = draw_instances(drawn, instances, metadata, score_threshold, (height, width))
        if instances.has("pred_keypoints"):
            chosen = instances[instances.scores >= score_threshold]
            drawn = _keypoints(drawn, chosen.pred_keypoints.float().numpy(), metadata, scale)
    if "scores" in output:
        drawn = _classes(drawn, output, metadata)
    return np.ascontiguousarray(drawn)


def _names(metadata: Metadata, kind: str) -> list[str]:
    return list(metadata.get(f"{kind}_classes", None) or ())


def semantic_map(output: dict[str, Any]) -> np.ndarray:
    """``(H, W)`` the contiguous number of the most likely class of each pixel."""
    return output["sem_seg"].argmax(0).to(torch.int32).cpu().numpy()


def draw_labels(
    image: np.ndarray, labels: np.ndarray, metadata: Metadata, ignored: int | None = None
) -> np.ndarray:
    """Classes of pixels ``(h, w)`` over an RGB uint8 image, in their colours and with names; those of
    ``ignored`` stay as they are."""
    names = _names(metadata, "stuff")
    numbers = [int(n) for n in np.unique(labels) if n != ignored]
    colours = class_colours(metadata, "stuff", max([len(names), *(n + 1 for n in numbers)]))
    segments = [(labels == n, colours[n], names[n] if n < len(names) else str(n)) for n in numbers]
    return _segments(image, segments)


def _panoptic(image: np.ndarray, output: dict[str, Any], metadata: Metadata) -> np.ndarray:
    ids, listed = output["panoptic_seg"]
    ids = ids.cpu().numpy()
    segments = []
    for segment in listed or ():
        kind = "thing" if segment.get("isthing", True) else "stuff"
        number, names = int(segment["category_id"]), _names(metadata, kind)
        colour = class_colours(metadata, kind, max(len(names), number + 1))[number]
        segments.append((ids == segment["id"], colour, names[number] if number < len(names) else str(number)))
    return _segments(image, segments)


def _segments(
    image: np.ndarray, segments: list[tuple[np.ndarray, tuple[float, float, float], str]]
) -> np.ndarray:
    """Masks ``(h, w)`` in their colours with an edge around each, and names on the larger ones."""
    shape = image.shape[:2]
    blended = image.astype(np.float32)
    named = []
    for mask, colour, name in segments:
        mask = cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
        inside = mask.astype(bool)
        rgb = 255 * np.asarray(colour, dtype=np.float32)
        blended[inside] += _STRENGTH * (rgb - blended[inside])
        edges, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(blended, edges, -1, (255, 255, 255), 1)
        if inside.sum() >= _SMALLEST * inside.size:
            # the point that is furthest from the segment's edge, and from the picture's
            depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
            y, x = np.unravel_index(int(depth.argmax()), shape)
            named.append((name, (int(x), int(y)), colour))
    visualizer = Visualizer(blended.astype(np.uint8))
    for name, place, colour in named:
        lighter = tuple(0.5 + 0.5 * c for c in colour)
        visualizer.draw_text(name, place, color=lighter, horizontal_alignment="center")
    return visualizer.output.get_image() if named else blended.astype(np.uint8)


def _keypoints(image: np.ndarray, keypoints: np.ndarray, metadata: Metadata, scale: float) -> np.ndarray:
    """``(n, k, 3)`` points in pixels of the image before it was enlarged by ``scale``, with their scores."""
    visualizer = Visualizer(image, metadata)
    for points in keypoints * (scale, scale, 1):
        visualizer.draw_and_connect_keypoints(points)
    return visualizer.output.get_image() if len(keypoints) else image


def _classes(image: np.ndarray, output: dict[str, Any], metadata: Metadata) -> np.ndarray:
    scores, names = output["scores"].float().cpu(), _names(metadata, "thing")
    best = scores.topk(min(3, len(scores)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    lines = [f"{names[i] if i < len(names) else i} {score:.0%}" for i, score in pairs]
    visualizer = Visualizer(image)
    visualizer.draw_text("\n".join(lines), (2, 2), horizontal_alignment="left")
    return visualizer.output.get_image()
