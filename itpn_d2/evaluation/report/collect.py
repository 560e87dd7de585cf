"""An evaluator that receives the same outputs as the others and makes a page about them."""

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm
from pycocotools.coco import COCO

from ..drawing import semantic_map
from .page import (
    Section,
    detection_sections,
    metric_section,
    panoptic_sections,
    render,
    semantic_sections,
)
from .panoptic import PanopticCounts, true_segments
from .semantic import SemanticCounts, true_labels

logger = logging.getLogger(__name__)


class ReportEvaluator(DatasetEvaluator):
    """Runs alongside the evaluator of a dataset; :meth:`write` then makes the page. Its errors are logged and
    do not affect the evaluation.

    Instances get precision-recall curves, AP by class and size, and confusions; semantic maps IoU by class
    and confusions; panoptic maps PQ by class; all of them the images on which it went best and worst. Other
    outputs get the table of metrics.

    Args:
        dataset_name: registered; with a COCO json (``json_file``) for instances, with label images for maps,
            with panoptic PNGs (:func:`.register_panoptic`) for segments.
        score_threshold: of the detections in confusions and pictures.
        images: how many best, and how many worst.
        limit: detections of a class in an image that count, as in the evaluation.
    """

    def __init__(
        self, dataset_name: str, score_threshold: float = 0.5, images: int = 6, limit: int | None = None
    ):
        self.dataset_name, self.score_threshold, self.images = dataset_name, score_threshold, images
        self.limit = 100 if limit is None else limit
        self.metadata = MetadataCatalog.get(dataset_name)
        self.reset()

    def reset(self) -> None:
        """Forget what was collected, and read the records of the dataset again."""
        self._records = {r["file_name"]: r for r in DatasetCatalog.get(self.dataset_name)}
        self._results: list[dict[str, Any]] = []
        self._kinds: set[str] = set()
        self._semantic: SemanticCounts | None = None
        self._panoptic: PanopticCounts | None = None
        self._broken = False

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Collect the outputs for some images; an error is logged and ends the collection."""
        if self._broken:
            return
        try:
            for item, output in zip(inputs, outputs, strict=True):
                self._take(item, output)
        except Exception:
            logger.exception("The report can't be made from these outputs; the evaluation continues")
            self._broken = True

    def _take(self, item: dict[str, Any], output: dict[str, Any]) -> None:
        if "instances" in output and self.metadata.get("json_file"):
            found = output["instances"].to("cpu")
            self._kinds.add("bbox")
            self._kinds |= {"segm"} if found.has("pred_masks") else set()
            if found.has("pred_keypoints"):  # they are shifted in place
                found.pred_keypoints = found.pred_keypoints.clone()
                self._kinds.add("keypoints")
            self._results += instances_to_coco_json(found, item["image_id"])
        record = self._records.get(item["file_name"], {})
        if "sem_seg" in output and "sem_seg_file_name" in record and self.metadata.get("stuff_classes"):
            if self._semantic is None:
                names = list(self.metadata.stuff_classes)
                self._semantic = SemanticCounts(names, self.metadata.get("ignore_label", 255), self.images)
            self._semantic.add(item["file_name"], true_labels(record), semantic_map(output))
        if "panoptic_seg" in output and {"pan_seg_file_name", "segments"} <= record.keys():
            ids, listed = output["panoptic_seg"]
            if listed is None:  # ids that hold the class: of Panoptic-DeepLab, which is not here
                return
            if self._panoptic is None:
                things, stuff = self.metadata.thing_classes, self.metadata.stuff_classes
                self._panoptic = PanopticCounts(things, stuff, self.images)
            self._panoptic.add(item["file_name"], true_segments(record), (ids.cpu().numpy(), listed))

    def evaluate(self) -> None:
        """Collect what all processes have seen; collective."""
        parts = comm.gather((self._results, self._kinds, self._semantic, self._panoptic, self._broken))
        if not comm.is_main_process():
            return
        self._results = [result for part in parts for result in part[0]]
        self._kinds = {kind for part in parts for kind in part[1]}
        self._semantic = _merged([part[2] for part in parts])
        self._panoptic = _merged([part[3] for part in parts])
        self._broken = any(part[4] for part in parts)

    def write(self, path: Path, metrics: Mapping[str, Any], facts: Mapping[str, str]) -> bool:
        """Make the page, whole or not at all, in the main process; whether it could be made.

        Args:
            metrics: nested, as the evaluation gave them.
            facts: the subject of the page, by name: model, weights, ...
        """
        try:
            sections = [metric_section(metrics)]
            if self._broken:
                note = "The outputs of the model could not be collected; the log gives the reason."
                sections.append(Section("Incomplete", note=note))
            elif self._results or self._kinds:
                sections += self._detections()
            if self._semantic is not None and not self._broken:
                sections += semantic_sections(self._semantic, self._records, self.metadata)
            if self._panoptic is not None and not self._broken:
                sections += panoptic_sections(self._panoptic, self._records, self.metadata)
            render(path, {**facts, "dataset": self.dataset_name}, sections)
        except Exception:
            logger.exception("The report could not be made")
            return False
        return True

    def _detections(self) -> list[Section]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(self.metadata.json_file)
        ids = self.metadata.get("thing_dataset_id_to_contiguous_id") or {}
        category_of = {number: category for category, number in ids.items()}
        names = {category_of.get(i, i): name for i, name in enumerate(self.metadata.thing_classes)}
        results = [
            {**r, "category_id": category_of.get(r["category_id"], r["category_id"])} for r in self._results
        ]
        annotations = truth.loadAnns(truth.getAnnIds())
        kinds = [k for k in ("bbox", "segm", "keypoints") if k in self._kinds]
        if "segm" in kinds and not all(a.get("segmentation") for a in annotations):
            kinds.remove("segm")
        if "keypoints" in kinds and not any(a.get("keypoints") for a in annotations):
            kinds.remove("keypoints")
        by_id = {r["image_id"]: r for r in self._records.values()}
        return detection_sections(
            truth, results, kinds, names, by_id, self.metadata, self.score_threshold, self.limit, self.images
        )


def _merged(counts: list[Any]) -> Any:
    """What all processes have counted; None if none has."""
    first, *others = [c for c in counts if c is not None] or [None]
    for other in others:
        first.merge(other)
    return first
