"""The sections of the page, and the page."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from ...data.decode import BrokenImageError, decode, open_image
from ...files import write_text
from ..drawing import draw_labels
from ..files import captioned
from ..results import flatten
from ..segmentation_grid import segmentation_grid
from ..visualize import prediction_grid
from .detection import OVERLAP, Record, matches, precision
from .figures import as_data, class_bars, confusion_map, recall_curves
from .panoptic import PanopticCounts
from .ranking import Ranking
from .semantic import SemanticCounts, true_labels

_SIDE = 360  # of each half of a picture, in pixels
_TITLES = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}
_MANY = 20  # classes: more curves in one figure could not be told apart


@dataclass
class Section:
    """A part of the page.

    Attributes:
        title, note: plain text.
        columns, rows: of a table; a row maps columns to text or to numbers in percent.
        figures: (``data:`` address, plain text).
        plain: columns whose numbers are counts, not percent.
    """

    title: str
    note: str = ""
    columns: list[str] = field(default_factory=list)
    rows: list[Record] = field(default_factory=list)
    figures: list[tuple[str, str]] = field(default_factory=list)
    plain: tuple[str, ...] = ()


def metric_section(metrics: Mapping[str, Any]) -> Section:
    """All metrics but those of single classes, a row for each task."""
    rows: dict[str, Record] = {}
    for name, value in flatten(metrics).items():
        task, _, metric = name.rpartition("/")
        if "-" not in metric and "-" not in task:
            rows.setdefault(task, {"task": task})[metric] = value
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    return Section("Metrics", columns=columns or ["task"], rows=list(rows.values()))


def detection_sections(
    truth: COCO,
    results: list[Record],
    kinds: Sequence[str],
    names: dict[int, str],
    records: Mapping[Any, Record],
    metadata: Any,
    score_threshold: float,
    limit: int,
    images: int,
) -> list[Section]:
    """Curves and classes of each kind; confusions, best and worst images of the finest of them.

    Args:
        truth, results, names: see :func:`.precision`.
        records: of the images by id.
        metadata: of the dataset, for pictures.
        score_threshold, limit, images: see :class:`.ReportEvaluator`.
    """
    if not results:
        return [Section("Detections", note="The model found nothing in any image.")]
    sections = []
    for kind in kinds:
        found = precision(truth, results, kind, names, limit)
        figures = [(recall_curves(found.curves, "mean of the classes"), "Precision over recall")]
        if len(found.class_curves) > 1:
            ordered = sorted(found.class_curves.items(), key=lambda item: -float(item[1].mean()))
            shown = ordered if len(ordered) <= _MANY else ordered[: _MANY // 2] + ordered[-_MANY // 2 :]
            which = "each class" if shown is ordered else f"the {_MANY // 2} best and worst classes"
            figures.append(
                (recall_curves(dict(shown), f"{which}, IoU 0.50", True), f"Of {which}, at IoU 0.50")
            )
        columns = list(found.rows[0])
        section = Section(
            f"{_TITLES[kind]}: AP by class and size",
            "Small: below 32x32 pixels of the image; large: from 96x96 pixels. A dash: no such object.",
            columns,
            found.rows,
            figures,
            ("objects",),
        )
        sections.append(section)
    finest = "segm" if "segm" in kinds else "bbox"
    found_pairs = matches(truth, results, finest, names, score_threshold)
    labels = list(names.values())
    what = (
        f"{_TITLES[finest].lower()} with a score of at least {score_threshold:g} and IoU {OVERLAP:g} or more"
    )
    sections.append(
        Section(
            "Confusion",
            f"Counts of {what}; each object and each detection is used once, whatever its class.",
            figures=[
                (
                    confusion_map(
                        found_pairs.confusion, [*labels, "no object"], [*labels, "not found"], "count"
                    ),
                    "True class by predicted class",
                )
            ],
        )
    )
    scores = found_pairs.scores
    ordered_ids = sorted(scores, key=lambda image: (scores[image], str(image)))
    for title, chosen in (
        ("Worst images", ordered_ids[:images]),
        ("Best images", ordered_ids[::-1][:images]),
    ):
        pictures = []
        for image in chosen:
            if image not in records:
                continue
            f1, overlap = scores[image]
            text = f"{Path(records[image]['file_name']).name}: F1 {f1:.2f}, mean IoU {overlap:.2f}"
            found_here = [r for r in results if r["image_id"] == image]
            pictures.append((_pair(records[image], found_here, names, metadata, score_threshold), text))
        sections.append(Section(title, f"Ranked by the F1 of {what} with the right class.", figures=pictures))
    return sections


def _pair(
    record: Record, results: list[Record], names: dict[int, str], metadata: Any, score_threshold: float
) -> str:
    number = {category: i for i, category in enumerate(names)}
    found = Instances((record["height"], record["width"]))
    boxes = torch.tensor([r["bbox"] for r in results], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    found.pred_boxes = Boxes(boxes)
    found.scores = torch.tensor([r["score"] for r in results], dtype=torch.float32)
    found.pred_classes = torch.tensor([number[r["category_id"]] for r in results], dtype=torch.int64)
    if results and "segmentation" in results[0]:
        found.pred_masks = (
            torch.from_numpy(np.stack([mask_util.decode(r["segmentation"]) for r in results])) > 0
        )
    picture = prediction_grid([record], [{"instances": found}], metadata, score_threshold, 1, _SIDE)
    return as_data(picture)


def semantic_sections(counts: SemanticCounts, records: Mapping[str, Record], metadata: Any) -> list[Section]:
    """IoU and accuracy by class, confusions, best and worst images."""
    rows = counts.rows()
    bars = [(class_bars(rows, "IoU"), "IoU of each class")]
    confusion = confusion_map(counts.confusion, counts.names, counts.names, "percent")
    sections = [
        Section("Classes of pixels", "", ["name", "share", "IoU", "accuracy"], rows, bars),
        Section(
            "Confusion of pixels",
            "In percent of the true pixels of a class.",
            figures=[(confusion, "True class by predicted class")],
        ),
    ]

    def pair(file: str, labels: np.ndarray) -> np.ndarray:
        panels = [
            captioned(_labelled(file, which, metadata, counts.ignored), text)
            for which, text in ((true_labels(records[file]), "ground truth"), (labels, "prediction"))
        ]
        gap = np.full((len(panels[0]), 4, 3), 255, np.uint8)
        return np.concatenate((panels[0], gap, panels[1]), 1)

    return sections + _ranked(
        counts.ranking, "mIoU", "Ranked by the mean IoU of the classes in the image.", pair
    )


def panoptic_sections(counts: PanopticCounts, records: Mapping[str, Record], metadata: Any) -> list[Section]:
    """PQ by class, best and worst images."""
    rows = counts.rows()
    if not rows:
        return [Section("Segments", note="The images have no segments, and none was found.")]
    plain = ("segments", "matched", "missed", "wrong")
    note = "PQ = SQ x RQ: the mean IoU of matched segments, and the F1 of matching them (IoU above 0.50)."
    bars = [(class_bars(rows, "PQ"), "PQ of each class")]

    def pair(file: str, found: tuple[np.ndarray, list[Record]]) -> np.ndarray:
        prediction = {"panoptic_seg": (torch.from_numpy(found[0]), found[1])}
        return segmentation_grid([records[file]], [prediction], metadata, 1, _SIDE)

    section = Section("Segments: PQ by class", note, list(rows[0]), rows, bars, plain)
    return [
        section,
        *_ranked(counts.ranking, "PQ", "Ranked by the mean PQ of the classes in the image.", pair),
    ]


def _ranked(
    ranking: Ranking, metric: str, note: str, draw: Callable[[str, Any], np.ndarray]
) -> list[Section]:
    """Worst and best images; ``draw`` takes a file name and what the ranking keeps of it."""
    return [
        Section(
            title,
            note,
            figures=[
                (as_data(draw(file, kept)), f"{Path(file).name}: {metric} {100 * score:.1f}")
                for score, file, kept in chosen
            ],
        )
        for title, chosen in (("Worst images", ranking.worst), ("Best images", ranking.best))
    ]


def _labelled(file: str, labels: np.ndarray, metadata: Any, ignored: int) -> np.ndarray:
    try:
        with open_image(file) as image:
            picture = decode(image)
    except BrokenImageError:
        return np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    scale = _SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return draw_labels(np.asarray(picture.resize(size)), labels, metadata, ignored)


def render(path: Path, facts: Mapping[str, str], sections: Sequence[Section]) -> None:
    """Write the page, whole or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,  # names of classes and files are anybody's
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["value"] = _value
    environment.filters["level"] = _level
    page = environment.get_template("report.html").render(
        facts={**facts, "made": datetime.now().strftime("%Y-%m-%d %H:%M")}, sections=sections
    )
    write_text(path, page)


def _value(value: Any, plain: bool = False) -> str:
    """Text of a cell."""
    if isinstance(value, str):
        return value
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:g}" if plain else f"{value:.1f}"


def _level(value: Any) -> float | None:
    """How strongly a cell is coloured, 0..1; None: not at all."""
    if isinstance(value, str) or value is None or not math.isfinite(value):
        return None
    return round(min(max(float(value), 0.0), 100.0) / 100, 3)
