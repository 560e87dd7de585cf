"""Evaluation of a model, and of its moving average, by the config's evaluator."""

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..evaluation import restricted, spread, write_results
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

    What the evaluator writes goes to ``inference/<name>`` in ``train.output_dir``.

    Raises:
        ValueError: the config's evaluator can't be restricted to some of the images. ConfigError: the model's
            results can't be merged over views.
    """
    test, predicting = cfg.dataloader.test.copy(), model
    test._set_parent(cfg.dataloader)  # interpolations reach the whole config
    if OmegaConf.select(cfg, "dataloader.test_views.enabled"):
        test.mapper.augmentations = []  # the views are made of the original image
        predicting = views_of(cfg, model)
    loader = instantiate(test)
    evaluator_cfg = cfg.dataloader.evaluator.copy()
    evaluator_cfg.output_dir = str(Path(cfg.train.output_dir) / "inference" / name)
    evaluator = instantiate(evaluator_cfg)
    if images is not None and images < len(loader.dataset):
        loader, evaluator = spread(loader, images), restricted(evaluator)
    device = next(model.parameters()).device
    was_training = model.training
    results = inference_on_dataset(_Autocast(predicting, device, dtype), loader, evaluator)
    model.train(was_training)
    return OrderedDict(results or {})
