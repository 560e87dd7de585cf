"""Details of an evaluation of boxes, masks or keypoints beyond a single AP: curves, classes, sizes,
confusions."""

import contextlib
import copy
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Record = dict[str, Any]
OVERLAP = 0.5  # intersection over union from which a detection has found its object
_LEVELS = {"IoU 0.50": 0, "IoU 0.75": 5}  # of COCO's ten thresholds


@dataclass
class Precision:
    """COCO's precision of one kind of result.

    Attributes:
        kind: ``bbox``, ``segm`` or ``keypoints``.
        curves: precision over recall 0, 0.01, ... 1, mean of the classes, by overlap.
        class_curves: the same at overlap .5 for each class with objects.
        rows: for each class ``name``, ``objects``, and AP in percent by column (nan where there is no
            object).
    """

    kind: str
    curves: dict[str, np.ndarray]
    class_curves: dict[str, np.ndarray]
    rows: list[Record]


@dataclass
class Matches:
    """Confusions between classes, for detections of at least the report's score and overlap.

    Attributes:
        confusion: ``(K + 1, K + 1)`` counts; rows are true classes and last what is no object, columns
            predicted classes and last what was not found.
        scores: of each image with objects or detections by id, F1 (of detections with the right class) and
            mean overlap of what was found.
    """

    confusion: np.ndarray
    scores: dict[Any, tuple[float, float]] = field(default_factory=dict)


def precision(truth: COCO, results: list[Record], kind: str, names: dict[int, str], limit: int) -> Precision:
    """COCO's evaluation, with its curves kept.

    Args:
        truth: the annotations.
        results: in COCO's format, at least one.
        names: of the category ids, in the order of the report.
        limit: detections of a class in an image that count.
    """
    given = [{k: v for k, v in r.items() if k != "bbox" or kind == "bbox"} for r in results]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(given)), kind)
        evaluation.params.catIds = list(names)
        evaluation.params.maxDets = [limit] if kind == "keypoints" else [1, 10, max(limit, 10)]
        evaluation.evaluate()
        evaluation.accumulate()
    values = evaluation.eval["precision"][..., -1]  # overlap, recall, class, size
    values = np.where(values < 0, np.nan, values)
    whole = values[..., 0]
    curves = {label: _mean(whole[level], 1) for label, level in _LEVELS.items()}
    curves["mean of IoU 0.50 to 0.95"] = _mean(whole.transpose(1, 0, 2).reshape(whole.shape[1], -1), 1)
    class_curves, rows = {}, []
    for number, (category, name) in enumerate(names.items()):
        ours = values[:, :, number]
        objects = [a for a in truth.loadAnns(truth.getAnnIds(catIds=[category])) if not a.get("iscrowd", 0)]
        row = {"name": name, "objects": len(objects), "AP": 100 * float(_mean(ours[..., 0]))}
        row.update({f"AP{50 + 5 * level}": 100 * float(_mean(ours[level, :, 0])) for level in (0, 5)})
        for size, label in enumerate(evaluation.params.areaRngLbl):
            if label != "all":
                row[f"AP {label}"] = 100 * float(_mean(ours[..., size]))
        rows.append(row)
        if objects:
            class_curves[name] = np.nan_to_num(ours[0, :, 0])
    return Precision(kind, curves, class_curves, rows)


def _mean(values: np.ndarray, axis: int | None = None) -> Any:
    """Mean without nan; nan of nothing."""
    there = ~np.isnan(values)
    count = there.sum(axis=axis)
    total = np.where(there, values, 0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def matches(
    truth: COCO, results: list[Record], kind: str, names: dict[int, str], score_threshold: float
) -> Matches:
    """Match objects with detections of any class, the pairs that overlap most first.

    What lies on a crowd and matches nothing else counts neither way.
    """
    number = {category: i for i, category in enumerate(names)}
    none = len(names)
    found = Matches(np.zeros((none + 1, none + 1), dtype=np.int64))
    by_image: dict[Any, list[Record]] = {}
    for result in results:
        if result["score"] >= score_threshold:
            by_image.setdefault(result["image_id"], []).append(result)
    for image in truth.getImgIds():
        objects = truth.loadAnns(truth.getAnnIds(imgIds=[image]))
        objects = [a for a in objects if a["category_id"] in number]
        detections = by_image.get(image, [])
        crowd = np.array([bool(a.get("iscrowd", 0)) for a in objects], dtype=bool)
        overlaps = _overlaps(truth, objects, detections, kind)
        pairs = _greedy(np.where(crowd[None], 0, overlaps))
        right = 0
        for detection, target in pairs:
            row, column = number[objects[target]["category_id"]], number[detections[detection]["category_id"]]
            found.confusion[row, column] += 1
            right += row == column
        matched_detections, matched_objects = {d for d, _ in pairs}, {t for _, t in pairs}
        ignored = {d for d in range(len(detections)) if overlaps[d, crowd].max(initial=0) >= OVERLAP}
        false = [d for d in range(len(detections)) if d not in matched_detections | ignored]
        missed = [t for t in range(len(objects)) if t not in matched_objects and not crowd[t]]
        for d in false:
            found.confusion[none, number[detections[d]["category_id"]]] += 1
        for t in missed:
            found.confusion[number[objects[t]["category_id"]], none] += 1
        total = 2 * len(pairs) + len(false) + len(missed)
        if total:
            overlap = float(np.mean([overlaps[d, t] for d, t in pairs])) if pairs else 0.0
            found.scores[image] = (2 * right / total, overlap)
    return found


def _overlaps(truth: COCO, objects: list[Record], detections: list[Record], kind: str) -> np.ndarray:
    """``(detections, objects)`` intersection over union; over the detection's area where the object is a
    crowd."""
    if not objects or not detections:
        return np.zeros((len(detections), len(objects)))
    crowd = [int(a.get("iscrowd", 0)) for a in objects]
    if kind == "segm":
        theirs = [truth.annToRLE(a) for a in objects]
        return np.asarray(mask_util.iou([d["segmentation"] for d in detections], theirs, crowd))
    boxes = [np.array([d["bbox"] for d in given], dtype=float) for given in (detections, objects)]
    return np.asarray(mask_util.iou(boxes[0], boxes[1], crowd))


def _greedy(overlaps: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (detection, object) that overlap enough, each used once."""
    pairs: list[tuple[int, int]] = []
    left = overlaps.copy()
    while left.size and left.max() >= OVERLAP:
        detection, target = (int(i) for i in np.unravel_index(int(left.argmax()), left.shape))
        pairs.append((detection, target))
        left[detection], left[:, target] = -1, -1
    return pairs
