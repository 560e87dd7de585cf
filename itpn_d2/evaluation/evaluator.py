"""COCO's average precision for any dataset with boxes, and with masks and keypoints where there are some."""

import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm

from ..data import has_masks
from ..files import write_json

logger = logging.getLogger(__name__)
_NAN = float("nan")
# COCO's bounds of an object's area, in pixels of the original image
_AREAS = {"APs": (0.0, 32.0**2), "APm": (32.0**2, 96.0**2), "APl": (96.0**2, 1e10)}

_COCO_KEYPOINTS = 17  # of a person: pycocotools knows how far off an annotator is at each
_SIGMA = 0.05  # of other keypoints, as a share of the object's size: the middle of COCO's .025 to .107 (ours)
_PARTS = {"segm": ("pred_masks", "masks"), "keypoints": ("pred_keypoints", "keypoints")}


class DetectionEvaluator(COCOEvaluator):
    """COCOEvaluator with tasks that fit dataset and model, and zeros instead of nan for a model that finds
    nothing.

    Args:
        tasks: what to evaluate; None is boxes, and masks and keypoints where both the dataset and the model's
            output have them.
        max_dets_per_image: detections of a class in an image that count, at least 10; None is COCO's 100.
        keypoint_sigmas: standard deviation of each keypoint's annotation over the object's size, half of what
            object keypoint similarity divides by; None: those of COCO for its 17, .05 for others.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        tasks: Sequence[str] | None = None,
        max_dets_per_image: int | None = None,
        keypoint_sigmas: Sequence[float] | None = None,
    ):
        if max_dets_per_image is not None and max_dets_per_image < 10:
            # pycocotools sorts it among its other limits, 1 and 10, and takes the largest
            raise ValueError(f"max_dets_per_image={max_dets_per_image}: COCO's evaluation needs at least 10")
        count = len(MetadataCatalog.get(dataset_name).get("keypoint_names", ()))
        if keypoint_sigmas is None:
            keypoint_sigmas = () if count == _COCO_KEYPOINTS else (_SIGMA,) * count
        elif len(keypoint_sigmas) != count:
            raise ValueError(
                f"dataset {dataset_name!r} has {count} keypoints, keypoint_sigmas has {len(keypoint_sigmas)}"
            )
        super().__init__(
            dataset_name,
            distributed=True,
            output_dir=output_dir,
            max_dets_per_image=max_dets_per_image,
            kpt_oks_sigmas=tuple(keypoint_sigmas),
            use_fast_impl=False,  # the compiled one isn't in every Detectron2, and its numbers are unofficial
        )
        unknown = sorted(set(tasks or ()) - {"bbox", *_PARTS})
        if unknown:
            raise ValueError(
                f"dataset {dataset_name!r}: tasks {unknown} are not known; choose from bbox, segm, keypoints"
            )
        self._chosen = tuple(tasks) if tasks else None
        self._dataset_has = {"segm": has_masks(dataset_name), "keypoints": count > 0}
        for task, (_, what) in _PARTS.items():
            if task in (self._chosen or ()) and not self._dataset_has[task]:
                raise ValueError(
                    f"dataset {dataset_name!r} has no {what}: leave {task} out of tasks={list(tasks or ())}"
                )
        self._model_has: dict[str, bool] | None = None  # until the first output

    def metric_names(self) -> list[str]:
        """What :meth:`evaluate` may measure, as ``bbox/AP``: of all tasks that the dataset allows, which the
        model may not."""
        tasks = self._chosen or ["bbox", *(task for task in sorted(_PARTS) if self._dataset_has[task])]
        names = self._metadata.get("thing_classes", None) or []
        classes = [f"AP-{name}" for name in names] if len(names) > 1 else []
        found = []
        for task in tasks:
            areas = [a for a in _AREAS if task != "keypoints" or a != "APs"]  # COCO has none of keypoints
            found += [f"{task}/{metric}" for metric in ("AP", "AP50", "AP75", *areas, *classes)]
        return found

    def reset(self) -> None:
        super().reset()
        self._model_has = None

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        super().process(inputs, outputs)
        for output in outputs:
            if "instances" in output:
                self._model_has = {
                    task: output["instances"].has(field) for task, (field, _) in _PARTS.items()
                }

    def evaluate(self, img_ids: Sequence[int] | None = None) -> OrderedDict[str, dict[str, float]]:
        """``{"bbox": {"AP": percent, ...}, "segm": ...}`` in the main process, empty in the others;
        collective.

        A metric is nan only where the ground truth has nothing to find (no small object, say).

        Raises:
            ValueError: masks or keypoints were asked for by name and the model has none.
        """
        # a process without an image of its own can't know
        known = [flags for flags in comm.all_gather(self._model_has) if flags is not None]
        self._model_has = known[0] if known else None
        for task in self._chosen or ():
            if task in _PARTS and self._model_has is not None and not self._model_has[task]:
                what = _PARTS[task][1]
                raise ValueError(
                    f"tasks={list(self._chosen or ())}: the model predicts no {what}, leave {task} out"
                )
        results = OrderedDict(super().evaluate(img_ids))
        if comm.is_main_process() and self._output_dir:
            self._finish_results(Path(self._output_dir))
        if comm.is_main_process() and self._do_evaluation:
            for task in self._tasks_from_predictions():
                if all(value != value for value in results.get(task, {}).values()):
                    results[task] = self._of_no_detection(task, img_ids)
        return results

    def _finish_results(self, folder: Path) -> None:
        """Give the written results the ids that the dataset's own json has, and say where they are when there
        is nothing to compare them with."""
        written = folder / "coco_instances_results.json"
        if not written.is_file():
            return
        images, categories = (self._metadata.get(key, None) for key in ("image_ids", "category_ids"))
        if self._do_evaluation and not images and not categories:
            return
        results = json.loads(written.read_text())
        for result in results:
            result["image_id"] = (images or {}).get(result["image_id"], result["image_id"])
            result["category_id"] = (categories or {}).get(result["category_id"], result["category_id"])
        write_json(written, results, indent=None)
        if not self._do_evaluation:
            write_json(folder / "instances.json", results, indent=None)
            logger.warning(
                "%s has no annotations, so there are no metrics: its predictions are in %s (COCO's results)",
                self._metadata.name,
                folder / "instances.json",
            )

    def _tasks_from_predictions(self, predictions: Any = None) -> list[str]:
        if self._chosen:
            return sorted(self._chosen)
        model = self._model_has or {"segm": True, "keypoints": False}  # an untold model has masks as well
        return ["bbox", *(task for task in ("keypoints", "segm") if self._dataset_has[task] and model[task])]

    def _of_no_detection(self, task: str, img_ids: Sequence[int] | None) -> dict[str, float]:
        """What COCO's evaluation gives for no detection at all, which pycocotools can't take."""
        found = self._coco_api.loadAnns(self._coco_api.getAnnIds(imgIds=img_ids or []))
        annotations = [a for a in found if not a.get("iscrowd", 0)]
        if task == "keypoints":
            annotations = [a for a in annotations if a.get("num_keypoints", 0)]
        overall = 0.0 if annotations else _NAN
        metrics = {"AP": overall, "AP50": overall, "AP75": overall}
        for name, (low, high) in _AREAS.items():
            if task == "keypoints" and name == "APs":
                continue  # COCO has none
            metrics[name] = 0.0 if any(low <= a["area"] <= high for a in annotations) else _NAN
        names = self._metadata.get("thing_classes", None) or []
        if len(names) > 1:
            present = {self._contiguous(a["category_id"]) for a in annotations}
            metrics.update({f"AP-{name}": 0.0 if i in present else _NAN for i, name in enumerate(names)})
        return metrics

    def _contiguous(self, category_id: int) -> int:
        ids = self._metadata.get("thing_dataset_id_to_contiguous_id", None)
        return category_id if ids is None else ids[category_id]


def build_evaluator(
    dataset_name: str,
    output_dir: str | None = None,
    tasks: Sequence[str] | None = None,
    max_dets_per_image: int | None = None,
    keypoint_sigmas: Sequence[float] | None = None,
) -> DetectionEvaluator:
    """The evaluator of a registered detection dataset; arguments as in :class:`DetectionEvaluator`.

    ``output_dir`` gets the predictions as ``coco_instances_results.json`` and ``instances_predictions.pth``;
    of a set without annotations they are all there is, and in ``instances.json``.
    """
    return DetectionEvaluator(dataset_name, output_dir, tasks, max_dets_per_image, keypoint_sigmas)
