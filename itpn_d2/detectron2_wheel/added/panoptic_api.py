"""The three functions Detectron2 takes from ``panopticapi``, which is not on PyPI.

An installed ``panopticapi`` is preferred. Otherwise panoptic quality is computed here, after "Panoptic
Segmentation" (Kirillov et al., CVPR 2019) and the COCO rules for void pixels and crowd regions.
"""

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

import numpy as np
from PIL import Image

__all__ = ["id2rgb", "pq_compute", "rgb2id"]

_Annotation = Mapping[str, Any]  # one entry of "annotations": image_id, file_name, segments_info

VOID = 0
_PAIR_BASE = 256**3  # segment ids are 24 bit: a pair of them fits into one int64


def rgb2id(color: Any) -> Any:
    """Segment ids of a panoptic PNG: ``R + 256 G + 256^2 B``.

    Args:
        color: array ``(..., 3)`` of 8-bit values, or a sequence of three ints.

    Returns:
        int32 array ``(...)``, or an int for a plain sequence.
    """
    rgb = np.asarray(color).astype(np.int32)
    ids = rgb[..., 0] + 256 * rgb[..., 1] + 256 * 256 * rgb[..., 2]
    return ids if isinstance(color, np.ndarray) else int(ids)


def id2rgb(id_map: Any) -> Any:
    """Inverse of :func:`rgb2id`.

    Args:
        id_map: integer array ``(...)``, or one int, below ``256^3``.

    Returns:
        uint8 array ``(..., 3)``, or a list of three ints for a plain int.
    """
    ids = np.asarray(id_map)
    rgb = np.stack([(ids // 256**k) % 256 for k in range(3)], axis=-1).astype(np.uint8)
    return rgb if isinstance(id_map, np.ndarray) else rgb.tolist()


@dataclass
class _Tally:
    """Of one category: summed IoU of the matches, true positives, false positives, false negatives."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def quality(self) -> Dict[str, float]:
        """``pq = sq * rq`` as fractions of 1; zeros for a category that occurs nowhere."""
        weight = self.tp + 0.5 * self.fp + 0.5 * self.fn
        if weight == 0:
            return {"pq": 0.0, "sq": 0.0, "rq": 0.0}
        return {"pq": self.iou / weight, "sq": self.iou / self.tp if self.tp else 0.0, "rq": self.tp / weight}


def _areas(ids: np.ndarray) -> Dict[int, int]:
    values, counts = np.unique(ids, return_counts=True)
    return {int(v): int(c) for v, c in zip(values.tolist(), counts.tolist())}


def _checked_segments(
    annotation: _Annotation, areas: Mapping[int, int], known: Iterable[int]
) -> Dict[int, int]:
    """Category of every predicted segment, after checking that PNG and json agree."""
    segments = {s["id"]: s["category_id"] for s in annotation["segments_info"]}
    name = annotation["file_name"]
    for segment, category in segments.items():
        if segment not in areas:
            raise KeyError(f"{name}: segment {segment} is in the json but has no pixel in the PNG")
        if category not in known:
            raise KeyError(f"{name}: segment {segment} has the undeclared category {category}")
    for segment in areas:
        if segment != VOID and segment not in segments:
            raise KeyError(f"{name}: segment {segment} is in the PNG but not in the json")
    return segments


def _add_image(
    tallies: Dict[int, _Tally],
    gt_annotation: _Annotation,
    gt_ids: np.ndarray,
    pred_annotation: _Annotation,
    pred_ids: np.ndarray,
) -> None:
    """Match the segments of one image and add to ``tallies``, which holds every declared category.

    ``gt_ids`` and ``pred_ids`` are integer maps ``(h, w)`` of segment ids.
    """
    if gt_ids.shape != pred_ids.shape:
        name, found, expected = pred_annotation["file_name"], pred_ids.shape, gt_ids.shape
        raise ValueError(f"{name}: the prediction is {found}, the ground truth {expected} (height, width)")
    gt_area, pred_area = _areas(gt_ids), _areas(pred_ids)
    pred_category = _checked_segments(pred_annotation, pred_area, tallies)
    gt_segments = {s["id"]: s for s in gt_annotation["segments_info"]}
    pairs = gt_ids.astype(np.int64) * _PAIR_BASE + pred_ids
    overlap: Dict[Tuple[int, int], int] = {divmod(pair, _PAIR_BASE): n for pair, n in _areas(pairs).items()}

    gt_matched, pred_matched = set(), set()
    for (gt_id, pred_id), intersection in overlap.items():
        if gt_id not in gt_segments or pred_id not in pred_category:
            continue
        gt = gt_segments[gt_id]
        if gt.get("iscrowd", 0) or gt["category_id"] != pred_category[pred_id]:
            continue
        # Pixels that the ground truth leaves void do not count against the prediction.
        union = gt_area[gt_id] + pred_area[pred_id] - intersection - overlap.get((VOID, pred_id), 0)
        if intersection / union > 0.5:  # above one half a match is unique
            tally = tallies[gt["category_id"]]
            tally.tp += 1
            tally.iou += intersection / union
            gt_matched.add(gt_id)
            pred_matched.add(pred_id)

    crowds = {}
    for gt_id, gt in gt_segments.items():
        if gt.get("iscrowd", 0):
            crowds[gt["category_id"]] = gt_id
        elif gt_id not in gt_matched:
            tallies[gt["category_id"]].fn += 1
    for pred_id, category in pred_category.items():
        if pred_id in pred_matched:
            continue
        ignored = overlap.get((VOID, pred_id), 0)
        if category in crowds:
            ignored += overlap.get((crowds[category], pred_id), 0)
        if ignored / pred_area[pred_id] <= 0.5:
            tallies[category].fp += 1


def _average(tallies: Mapping[int, _Tally], chosen: Iterable[int]) -> Dict[str, float]:
    present = [tallies[c] for c in chosen if tallies[c].tp + tallies[c].fp + tallies[c].fn]
    rows = [tally.quality() for tally in present]
    keys = ("pq", "sq", "rq")
    means = {key: sum(row[key] for row in rows) / len(rows) if rows else float("nan") for key in keys}
    return {**means, "n": len(rows)}


def pq_compute(
    gt_json_file: str,
    pred_json_file: str,
    gt_folder: Optional[str] = None,
    pred_folder: Optional[str] = None,
) -> Dict[str, Any]:
    """Panoptic quality of predictions in COCO panoptic format.

    Args:
        gt_json_file, pred_json_file: annotation files; the categories come from the ground truth.
        gt_folder, pred_folder: folders of the PNGs; by default the json's path without ``.json``.

    Returns:
        ``All``, ``Things`` and ``Stuff``: dicts with ``pq``, ``sq``, ``rq`` in 0..1 (nan where no category of
        that kind occurs) and ``n``, the number of categories averaged; ``per_class``: by category id.

    Raises:
        KeyError: an image without prediction, or a PNG that disagrees with its json.
        ValueError: a prediction of another size than its ground truth.
    """
    with open(gt_json_file) as f:
        gt_json = json.load(f)
    with open(pred_json_file) as f:
        pred_json = json.load(f)
    gt_folder = gt_folder or os.path.splitext(gt_json_file)[0]
    pred_folder = pred_folder or os.path.splitext(pred_json_file)[0]
    categories = {c["id"]: c for c in gt_json["categories"]}
    predictions = {a["image_id"]: a for a in pred_json["annotations"]}

    tallies = {category: _Tally() for category in categories}
    for gt in gt_json["annotations"]:
        if gt["image_id"] not in predictions:
            raise KeyError(f"{pred_json_file}: no prediction for image_id {gt['image_id']}")
        pred = predictions[gt["image_id"]]
        gt_ids = rgb2id(np.array(Image.open(os.path.join(gt_folder, gt["file_name"])).convert("RGB")))
        pred_ids = rgb2id(np.array(Image.open(os.path.join(pred_folder, pred["file_name"])).convert("RGB")))
        _add_image(tallies, gt, gt_ids, pred, pred_ids)

    things = [c for c in categories if categories[c].get("isthing") == 1]
    stuff = [c for c in categories if c not in things]
    return {
        "All": _average(tallies, categories),
        "Things": _average(tallies, things),
        "Stuff": _average(tallies, stuff),
        "per_class": {c: tallies[c].quality() for c in categories},
    }


try:
    from panopticapi.evaluation import pq_compute  # type: ignore[no-redef]  # noqa: F811
    from panopticapi.utils import id2rgb, rgb2id  # type: ignore[no-redef]  # noqa: F811
except ImportError:
    pass
