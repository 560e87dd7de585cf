"""COCO's average precision for any dataset with boxes, and with masks and keypoints where there are some."""

import copy
import logging
import shutil
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_json
from detectron2.evaluation import COCOEvaluator
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.utils import comm

from ..data import has_masks
from ..files import written_whole
from .matching import average_precision, own_images
from .spill import Spill, write_list
from .truth import Truth, read_truth

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
        keypoint_sigmas: standard deviation of each keypoint's annotations relative to the object's size, half
            of the divisor in object keypoint similarity; None: those of COCO for its 17, .05 for others.

    Raises:
        ValueError: an unknown task, or one that the dataset has no annotations for; ``max_dets_per_image``
            below 10; not one of ``keypoint_sigmas`` for each keypoint; neither a json_file in the metadata
            nor an ``output_dir`` to write one to.
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
                f"dataset {dataset_name!r} has {count} keypoints, "
                f"but keypoint_sigmas has {len(keypoint_sigmas)}"
            )
        # Not by COCOEvaluator's constructor, which parses the json in every process. What it sets:
        self._logger, self._cpu_device = logger, torch.device("cpu")
        self._metadata, self._output_dir = MetadataCatalog.get(dataset_name), output_dir
        self._distributed, self._tasks = True, None
        # the compiled one isn't in every Detectron2, and its numbers are unofficial
        self._use_fast_impl = False
        self._max_dets_per_image = [1, 10, 100 if max_dets_per_image is None else max_dets_per_image]
        self._kpt_oks_sigmas = tuple(keypoint_sigmas)
        if not hasattr(self._metadata, "json_file"):
            if output_dir is None:
                raise ValueError(
                    f"dataset {dataset_name!r} has no json_file, and there is no output_dir for one"
                )
            self._metadata.json_file = str(Path(output_dir) / f"{dataset_name}_coco_format.json")
            convert_to_coco_json(dataset_name, self._metadata.json_file)
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
        """Forget all results, and which kinds of results the model predicts."""
        super().reset()
        self._model_has = None
        self._seen: list[int] = []
        self._spill = Spill(self._output_dir)

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        """Add the outputs for some images; the results are kept on the disk until the evaluation.

        Raises:
            ValueError: a class that the dataset doesn't have.
        """
        for item, output in zip(inputs, outputs, strict=True):
            if "instances" in output:
                found = output["instances"].to(self._cpu_device)
                self._model_has = {task: found.has(field) for task, (field, _) in _PARTS.items()}
                self._seen.append(item["image_id"])
                self._spill.add(self._of_the_json(r) for r in instances_to_coco_json(found, item["image_id"]))
            elif "proposals" in output:
                super().process([item], [output])

    def _of_the_json(self, result: dict[str, Any]) -> dict[str, Any]:
        ids = self._metadata.get("thing_dataset_id_to_contiguous_id", None)
        if ids is None:
            return result
        number = result["category_id"]
        found = {contiguous: category for category, contiguous in ids.items()}
        if number not in found:
            raise ValueError(
                f"dataset {self._metadata.name!r} has {len(found)} classes: a prediction has class {number}"
            )
        return {**result, "category_id": found[number]}

    def evaluate(self, img_ids: Sequence[int] | None = None) -> OrderedDict[str, dict[str, float]]:
        """``{"bbox": {"AP": percent, ...}, "segm": ...}`` in the main process, empty in the others;
        collective. Each process compares what it has found in its images; an image that several have seen
        counts once.

        A metric is nan only where the ground truth has nothing to find (no small object, say).

        Args:
            img_ids: the images that count, as far as this process has seen them; None: all of the dataset.

        Raises:
            ValueError: masks or keypoints were requested by name and the model has none.
            OutputError: the results can't be written.
        """
        truth = read_truth(self._metadata.json_file)
        self._do_evaluation = truth.annotated
        # a process without an image of its own can't know
        known = [flags for flags in comm.all_gather(self._model_has) if flags is not None]
        self._model_has = known[0] if known else None
        for task in self._chosen or ():
            if task in _PARTS and self._model_has is not None and not self._model_has[task]:
                what = _PARTS[task][1]
                raise ValueError(
                    f"tasks={list(self._chosen or ())}: the model predicts no {what}; leave {task} out"
                )
        if any(comm.all_gather(bool(self._predictions))):
            self._coco_api = truth.of(None if comm.is_main_process() else ())
            return OrderedDict(super().evaluate(img_ids))  # of a proposal network
        self._results: OrderedDict[str, dict[str, float]] = OrderedDict()
        images = own_images(self._seen, truth.image_ids.tolist() if img_ids is None else img_ids)
        mine = set(images) & set(self._seen)
        if self._output_dir and known:
            self._write(Path(self._output_dir), mine)
        if self._do_evaluation:
            found = [r for r in self._spill if r["image_id"] in mine]
            if not known:
                logger.warning("%s: no image was processed", self._metadata.name)
            if sum(comm.all_gather(len(found))):
                self._measure(truth, found, images)
        if not comm.is_main_process():
            return OrderedDict()
        if self._do_evaluation:
            self._say_limit(truth)
            for task in self._tasks_from_predictions():
                if all(value != value for value in self._results.get(task, {}).values()):
                    self._results[task] = self._of_no_detection(truth, task, img_ids)
        return copy.deepcopy(self._results)

    def _measure(self, truth: Truth, found: list[dict[str, Any]], images: list[int]) -> None:
        """Put the metrics of all tasks into the results of the main process."""
        logger.info("Evaluating predictions with pycocotools, on %d process(es)", comm.get_world_size())
        names = self._metadata.get("thing_classes", None)
        own = truth.of(images)
        for task in sorted(self._tasks_from_predictions()):
            evaluation = average_precision(
                own, found, task, images, self._max_dets_per_image, self._kpt_oks_sigmas, truth.keypoints
            )
            if evaluation is not None:
                self._results[task] = self._derive_coco_results(evaluation, task, class_names=names)

    def _say_limit(self, truth: Truth) -> None:
        """Warn of images with more objects of a class than detections are counted."""
        limit = self._max_dets_per_image[-1]
        over = [count for count in truth.counts().values() if count > limit]
        if over:
            logger.warning(
                "%s: %d x an image with more objects of a class than the %d detections that are counted "
                "(up to %d objects): their AP can't reach 100. Set "
                "dataloader.evaluator.max_dets_per_image=%d, and let the model return as many "
                "(test_topk_per_image, or max_detections_per_image)",
                self._metadata.name,
                len(over),
                limit,
                max(over),
                max(over),
            )

    def _write(self, folder: Path, images: set[int]) -> None:
        """Write the results with the ids that the dataset's own json has, and say where they are when there
        is nothing to compare them with; collective."""
        names = {"image_id": self._metadata.get("image_ids", None) or {}}
        names["category_id"] = self._metadata.get("category_ids", None) or {}
        renamed = (
            {**result, **{key: known.get(result[key], result[key]) for key, known in names.items()}}
            for result in self._spill
            if result["image_id"] in images
        )
        written = folder / "coco_instances_results.json"
        write_list(written, renamed)
        if not self._do_evaluation and comm.is_main_process():
            with written_whole(folder / "instances.json") as partial:
                shutil.copyfile(written, partial)
            logger.warning(
                "%s has no annotations, so there are no metrics; its predictions are in %s (COCO's "
                "result format)",
                self._metadata.name,
                folder / "instances.json",
            )

    def _tasks_from_predictions(self, predictions: Any = None) -> list[str]:
        if self._chosen:
            return sorted(self._chosen)
        model = self._model_has or {"segm": True, "keypoints": False}  # an untold model has masks as well
        return ["bbox", *(task for task in ("keypoints", "segm") if self._dataset_has[task] and model[task])]

    def _of_no_detection(self, truth: Truth, task: str, img_ids: Sequence[int] | None) -> dict[str, float]:
        """The results of COCO's evaluation without any detection, a case that pycocotools can't handle."""
        annotations = list(truth.objects(img_ids or None))
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

    ``output_dir`` gets the predictions as ``coco_instances_results.json``; for a dataset without annotations,
    only ``instances.json`` is written.
    """
    return DetectionEvaluator(dataset_name, output_dir, tasks, max_dets_per_image, keypoint_sigmas)
