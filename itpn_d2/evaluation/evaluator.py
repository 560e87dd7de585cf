"""COCO's average precision for any dataset with boxes, and with masks where there are some."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm

from ..data import has_masks

_NAN = float("nan")
# COCO's bounds of an object's area, in pixels of the original image
_AREAS = {"APs": (0.0, 32.0**2), "APm": (32.0**2, 96.0**2), "APl": (96.0**2, 1e10)}


class DetectionEvaluator(COCOEvaluator):
    """COCOEvaluator with tasks that fit dataset and model, and zeros instead of nan for a model that finds
    nothing.

    Args:
        tasks: what to evaluate; None is boxes, and masks where both the dataset and the model's output have
            them.
        max_dets_per_image: detections of a class in an image that count, at least 10; None is COCO's 100.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | None = None,
        tasks: Sequence[str] | None = None,
        max_dets_per_image: int | None = None,
    ):
        if max_dets_per_image is not None and max_dets_per_image < 10:
            # pycocotools sorts it among its other limits, 1 and 10, and takes the largest
            raise ValueError(f"max_dets_per_image={max_dets_per_image}: COCO's evaluation needs at least 10")
        super().__init__(
            dataset_name,
            distributed=True,
            output_dir=output_dir,
            max_dets_per_image=max_dets_per_image,
            use_fast_impl=False,  # the compiled one isn't in every Detectron2, and its numbers are unofficial
        )
        unknown = sorted(set(tasks or ()) - {"bbox", "segm"})
        if unknown:
            raise ValueError(
                f"dataset {dataset_name!r}: tasks {unknown} are not known; choose from bbox, segm"
            )
        self._chosen = tuple(tasks) if tasks else None
        self._dataset_has_masks = has_masks(dataset_name)
        if self._chosen and "segm" in self._chosen and not self._dataset_has_masks:
            raise ValueError(
                f"dataset {dataset_name!r} has no masks: leave segm out of tasks={list(self._chosen)}"
            )
        self._model_has_masks: bool | None = None  # until the first output

    def reset(self) -> None:
        super().reset()
        self._model_has_masks = None

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        super().process(inputs, outputs)
        for output in outputs:
            if "instances" in output:
                self._model_has_masks = output["instances"].has("pred_masks")

    def evaluate(self, img_ids: Sequence[int] | None = None) -> OrderedDict[str, dict[str, float]]:
        """``{"bbox": {"AP": percent, ...}, "segm": ...}`` in the main process, empty in the others;
        collective.

        A metric is nan only where the ground truth has nothing to find (no small object, say).

        Raises:
            ValueError: masks were asked for by name and the model has none.
        """
        # a process without an image of its own can't know
        known = [flag for flag in comm.all_gather(self._model_has_masks) if flag is not None]
        self._model_has_masks = known[0] if known else None
        if self._chosen and "segm" in self._chosen and self._model_has_masks is False:
            raise ValueError(f"tasks={list(self._chosen)}: the model predicts no masks, leave segm out")
        results = OrderedDict(super().evaluate(img_ids))
        if comm.is_main_process() and self._do_evaluation:
            for task in self._tasks_from_predictions():
                if all(value != value for value in results.get(task, {}).values()):
                    results[task] = self._of_no_detection(img_ids)
        return results

    def _tasks_from_predictions(self, predictions: Any = None) -> list[str]:
        if self._chosen:
            return sorted(self._chosen)
        masks = self._dataset_has_masks and self._model_has_masks is not False
        return ["bbox", "segm"] if masks else ["bbox"]

    def _of_no_detection(self, img_ids: Sequence[int] | None) -> dict[str, float]:
        """What COCO's evaluation gives for no detection at all, which pycocotools can't take."""
        found = self._coco_api.loadAnns(self._coco_api.getAnnIds(imgIds=img_ids or []))
        annotations = [a for a in found if not a.get("iscrowd", 0)]
        overall = 0.0 if annotations else _NAN
        metrics = {"AP": overall, "AP50": overall, "AP75": overall}
        for name, (low, high) in _AREAS.items():
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
) -> DetectionEvaluator:
    """The evaluator of a registered detection dataset; arguments as in :class:`DetectionEvaluator`.

    ``output_dir`` gets the predictions as ``coco_instances_results.json`` and ``instances_predictions.pth``.
    """
    return DetectionEvaluator(dataset_name, output_dir, tasks, max_dets_per_image)
