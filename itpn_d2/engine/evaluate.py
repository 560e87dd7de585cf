"""Evaluation of a model, and of its moving average, by the config's evaluator."""

import difflib
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..addresses import masked
from ..data import has_annotations
from ..errors import ConfigError, DatasetError
from ..evaluation import restricted, spread, write_results
from ..evaluation.report import ReportEvaluator
from ..lazy.build import build
from ..solver import WeightAverage
from .precision import autocast
from .views import views_of

logger = logging.getLogger(__name__)


class _Autocast(nn.Module):
    """The model under mixed precision, with the evaluation interface of the original."""

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype):
        super().__init__()
        self.model, self.device, self.dtype = model, device, dtype

    def forward(self, batch: list[dict]) -> list[dict]:
        with autocast(self.device, self.dtype):
            return self.model(batch)


def check_evaluation(cfg: DictConfig) -> None:
    """Check before training that the validation set can be evaluated and that ``train.best_metric`` is
    measured.

    Raises:
        DatasetError: it has no annotations. ConfigError: no such metric, or an evaluator can't be built so.
    """
    name = OmegaConf.select(cfg, "dataset.val.name")
    if isinstance(name, str) and not has_annotations(name):
        raise DatasetError(
            f"dataset {name!r} has no annotations, so nothing can be measured: set train.eval_period=0, "
            "and write its predictions with --eval-only after the training"
        )
    evaluator = build(_evaluator_cfg(cfg, "model"))
    metric = str(cfg.train.get("best_metric") or "").removeprefix("ema/")
    known = evaluator.metric_names() if hasattr(evaluator, "metric_names") else None
    if known is None or not metric or metric in known or metric.startswith("val"):
        return
    near = difflib.get_close_matches(metric.lower(), {k.lower(): k for k in known}, 1)
    hint = next((f"; did you mean {k}?" for k in known if near and k.lower() == near[0]), "")
    hint = hint or f"; there are: {', '.join(known)}"
    raise ConfigError(f"train.best_metric={cfg.train.best_metric} is never measured{hint}")


def _evaluator_cfg(cfg: DictConfig, name: str) -> DictConfig:
    """The call of the evaluator, which writes to ``inference/<name>`` in ``train.output_dir``; COCO's needs
    the folder for a set without a json."""
    node = cfg.dataloader.evaluator.copy()
    node._set_parent(cfg.dataloader)
    node.output_dir = str(Path(OmegaConf.select(cfg, "train.output_dir") or ".") / "inference" / name)
    return node


def evaluate(
    cfg: DictConfig, model: nn.Module, dtype: torch.dtype, average: WeightAverage | None = None
) -> OrderedDict[str, Any]:
    """Run ``dataloader.evaluator`` over ``dataloader.test``; collective over all processes.

    Returns Detectron2's nested results, ``{"bbox": {"AP": ...}, ...}``, with those of the moving average
    under ``"ema"``; the main process writes them to ``results.json`` and logs the table, the others return an
    empty dict.
    """
    results = evaluate_once(cfg, model, dtype, "model")
    if average is not None:
        with average.swapped_into(model):
            averaged = evaluate_once(cfg, model, dtype, "ema")
        if comm.is_main_process():
            results["ema"] = averaged
    if comm.is_main_process():
        logger.info("Results\n%s", write_results(Path(cfg.train.output_dir) / "results.json", results))
    return results


def evaluate_once(
    cfg: DictConfig, model: nn.Module, dtype: torch.dtype, name: str, images: int | None = None
) -> OrderedDict[str, Any]:
    """Detectron2's nested results of the model on ``dataloader.test``, or on so many of its images, spread
    evenly over the dataset; with ``dataloader.test_views.enabled`` from several views of each image.

    What the evaluator writes goes to ``inference/<name>`` in ``train.output_dir``; with ``train.report`` a
    page about the evaluation of all images to ``report.html`` there (``report_<name>.html`` but for
    ``model``).

    Raises:
        ValueError: the config's evaluator can't be restricted to some of the images. ConfigError: the model's
            results can't be merged over views.
    """
    test, predicting = cfg.dataloader.test.copy(), model
    test._set_parent(cfg.dataloader)  # interpolations reach the whole config
    if OmegaConf.select(cfg, "dataloader.test_views.enabled"):
        test.mapper.augmentations = []  # the views are made of the original image
        predicting = views_of(cfg, model)
    loader = build(test)
    evaluator_cfg = _evaluator_cfg(cfg, name)
    evaluator = build(evaluator_cfg)
    if images is not None and images < len(loader.dataset):
        loader, evaluator = spread(loader, images), restricted(evaluator)
    report = None
    if images is None and cfg.train.get("report") and has_annotations(cfg.dataset.val.name):
        limit = evaluator_cfg.get("max_dets_per_image")
        report = ReportEvaluator(cfg.dataset.val.name, limit=limit)
        evaluator = DatasetEvaluators([evaluator, report])
    device = next(model.parameters()).device
    was_training = model.training
    results = inference_on_dataset(_Autocast(predicting, device, dtype), loader, evaluator)
    model.train(was_training)
    if report is not None and comm.is_main_process():
        page = Path(OmegaConf.select(cfg, "train.output_dir")) / (
            "report.html" if name == "model" else f"report_{name}.html"
        )
        facts = {
            "model": type(model).__name__,
            "weights": name,
            "output": str(OmegaConf.select(cfg, "train.output_dir")),
        }
        if cfg.train.init_checkpoint:
            facts["started from"] = masked(str(cfg.train.init_checkpoint))
        if report.write(page, results or {}, facts):
            logger.info("Report: %s", page)
    return OrderedDict(results or {})
