"""Test-time augmentation: the predictions on several sizes of an image and on its mirror image, merged."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import get_cfg
from detectron2.data.transforms import HFlipTransform
from detectron2.layers import batched_nms
from detectron2.modeling import DatasetMapperTTA, GeneralizedRCNN, GeneralizedRCNNWithTTA, PanopticFPN
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor
from detectron2.structures import Boxes, Instances
from omegaconf import DictConfig
from torch import nn

from ..errors import ConfigError

_TINY = 1e-12  # probability below which none is told apart


class _Views(nn.Module):
    """One image after the other, in all its views; a subclass runs and merges them.

    Args:
        model: what predicts one view.
        mapper: an image to its views, each with the ``transforms`` that made it.
    """

    def __init__(self, model: nn.Module, mapper: DatasetMapperTTA):
        super().__init__()
        self.model, self.mapper = model, mapper

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self.merge(item, self.mapper(item)) for item in batch]

    def merge(self, item: dict[str, Any], views: list[dict[str, Any]]) -> dict[str, Any]:
        raise NotImplementedError


def _mirrored(view: dict[str, Any]) -> bool:
    return any(isinstance(t, HFlipTransform) for t in view["transforms"].transforms)


class SemanticViews(_Views):
    """The mean of the views' probabilities, as its logarithm."""

    def merge(self, item: dict[str, Any], views: list[dict[str, Any]]) -> dict[str, Any]:
        """``sem_seg`` ``(classes, H, W)``: logarithms of the mean probabilities."""
        total: Any = 0
        for view in views:
            probabilities = self.model([view])[0]["sem_seg"].float().softmax(0)
            total = total + (probabilities.flip(-1) if _mirrored(view) else probabilities)
        return {"sem_seg": (total / len(views)).clamp(min=_TINY).log()}


class DenseViews(_Views):
    """The boxes of all views of a one-stage detector, after non-maximum suppression."""

    model: Any

    def merge(self, item: dict[str, Any], views: list[dict[str, Any]]) -> dict[str, Any]:
        """``instances`` of the image, best first, at most the model's ``max_detections_per_image``."""
        found = []
        for view in views:
            instances = self.model([view])[0]["instances"]
            if _mirrored(view):
                x1, y1, x2, y2 = instances.pred_boxes.tensor.unbind(1)
                width = instances.image_size[1]
                instances.pred_boxes = Boxes(torch.stack((width - x2, y1, width - x1, y2), 1))
            found.append(instances)
        merged = Instances.cat(found)
        keep = batched_nms(
            merged.pred_boxes.tensor.float(),
            merged.scores.float(),
            merged.pred_classes,
            self.model.test_nms_thresh,
        )
        return {"instances": merged[keep[: self.model.max_detections_per_image]]}


class TwoStageViews(nn.Module):
    """Detectron2's GeneralizedRCNNWithTTA, which wants a yacs config: boxes of all views after suppression,
    masks the mean over the views."""

    def __init__(self, model: GeneralizedRCNN, mapper: DatasetMapperTTA):
        super().__init__()
        heads = model.roi_heads
        last = (
            heads.box_predictor[-1] if isinstance(heads.box_predictor, nn.ModuleList) else heads.box_predictor
        )
        cfg = get_cfg()
        cfg.MODEL.MASK_ON = heads.mask_on
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = heads.num_classes
        cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = last.test_nms_thresh
        cfg.TEST.DETECTIONS_PER_IMAGE = last.test_topk_per_image
        self.views = GeneralizedRCNNWithTTA(cfg, model, mapper, batch_size=1)

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The predictions for each image of the batch, merged from its views."""
        return self.views(batch)


def in_views(model: nn.Module, short_sides: Sequence[int], max_size: int, flip: bool = True) -> nn.Module:
    """The model, predicting from every view of an image; in evaluation mode, with the same output.

    Its input should be images of full size: they are resized for each view.

    Args:
        short_sides: of the views, in pixels.
        max_size: of their longer sides.
        flip: also the mirror of each.

    Raises:
        ConfigError: there is no view, or the model is of a kind whose results can't be merged.
    """
    if not short_sides:
        raise ConfigError("dataloader.test_views.scales is empty: give at least one, or enabled=False")
    mapper = DatasetMapperTTA([int(s) for s in short_sides], int(max_size), flip)
    if isinstance(model, SemanticSegmentor):
        return SemanticViews(model, mapper)
    if isinstance(model, DenseDetector):
        return DenseViews(model, mapper)
    two_stage = isinstance(model, GeneralizedRCNN) and not isinstance(model, PanopticFPN)
    if two_stage and not getattr(model.roi_heads, "keypoint_on", False):
        return TwoStageViews(model, mapper)
    raise ConfigError(
        f"dataloader.test_views: predictions of a {type(model).__name__} (keypoints, panoptic segments, "
        "...) can't be merged over views; set dataloader.test_views.enabled=False"
    )


def views_of(cfg: DictConfig, model: nn.Module) -> nn.Module:
    """:func:`in_views` by ``dataloader.test_views``, whose scales are of ``dataloader.image``'s test size."""
    views, image = cfg.dataloader.test_views, cfg.dataloader.image
    sides = [round(scale * image.test_short_side) for scale in views.scales]
    return in_views(model, sides, round(max(views.scales, default=1) * image.max_size), views.flip)
