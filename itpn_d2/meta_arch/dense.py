"""Detectron2's one-stage detectors, extended to padded batches, mixed precision, and images without
objects."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling import RetinaNet as Detectron2RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS as Detectron2FCOS
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor

from ..layers import apart, everywhere
from .rcnn import Batch, result_size
from .sized import Sized

Predictions = Sequence[Sequence[Tensor]]  # of each kind, of each level
_USUAL = 2  # images of a process in Detectron2's recipes, which its first normalisers are meant for
_FAR = -1e6  # pixels: no location lies within a box there


def _full(predictions: Predictions) -> list[list[Tensor]]:
    return [[level.float() for level in kind] for kind in predictions]


class _Dense(Sized):
    """The backbone is told where images end. Losses and boxes are in float32, whatever the head predicts in:
    bfloat16 has no exact pixels above 256. Losses are divided by a moving average of the positive anchors of
    an image, over all processes; Detectron2's is of a process."""

    num_classes: int
    _counts: tuple[float | None, float]  # positive anchors and images, means of the processes

    def forward(self, batched_inputs: Batch) -> Any:
        """As of Detectron2's: losses in training, else ``{"instances": ...}`` of each image."""
        model: Any = self
        images = model.preprocess_image(batched_inputs)
        maps = self.features(images)
        features = [maps[name] for name in model.head_in_features]
        predictions = model.head(features)
        if model.training:
            targets = [item["instances"].to(model.device) for item in batched_inputs]
            return self.forward_training(images, features, predictions, targets)
        found = self.forward_inference(images, features, predictions)
        return [
            {"instances": detector_postprocess(one, *result_size(item, size))}
            for item, size, one in zip(batched_inputs, images.image_sizes, found, strict=True)
        ]

    def forward_training(self, images: Any, features: Any, predictions: Predictions, targets: Any) -> Any:
        return super().forward_training(images, features, _full(predictions), targets)  # type: ignore[misc]

    def forward_inference(self, images: Any, features: Any, predictions: Predictions) -> Any:
        return super().forward_inference(images, features, _full(predictions))  # type: ignore[misc]

    def losses(self, anchors: Any, pred_logits: Any, gt_labels: list[Tensor], *rest: Any) -> Any:
        self._counts = None, len(gt_labels)
        if apart():  # only then does the host wait once more than Detectron2's
            labels = torch.stack(gt_labels)
            positive = ((labels >= 0) & (labels != self.num_classes)).sum()
            images = torch.full_like(positive, len(labels))
            found = everywhere(torch.stack((positive, images))).tolist()
            self._counts = found[0], found[1]
        # TorchScript, in which the focal loss is, rounds otherwise once it has seen some calls: a run that
        # goes on in a new process would not be the one that was never stopped
        with torch.jit.optimized_execution(False):
            return super().losses(anchors, pred_logits, gt_labels, *rest)  # type: ignore[misc]

    def _ema_update(self, name: str, value: float, initial_value: float, momentum: float = 0.9) -> float:
        """Detectron2's for an image, times the images of a process; ``value`` counts those of this one. A
        validation, which has no gradients, divides by it as it is."""
        positive, images = self._counts
        if not torch.is_grad_enabled():
            return float(getattr(self, name, initial_value / _USUAL) * images)
        each = (value if positive is None else max(positive, 1)) / images
        found = super()._ema_update(name, each, initial_value / _USUAL, momentum)  # type: ignore[misc]
        return float(found * images)


class RetinaNet(_Dense, Detectron2RetinaNet):
    """RetinaNet (Lin et al., ICCV'17)."""


class FCOS(_Dense, Detectron2FCOS):
    """FCOS (Tian et al., ICCV'19). Detectron2 0.6 can't match locations with no box at all; an image without
    one gets a box that is out of sight, so that all of it is background."""

    def label_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]) -> Any:
        """Labels and boxes of every location of every image; arguments as of Detectron2's."""
        return super().label_anchors(anchors, [g if len(g) else _out_of_sight(g) for g in gt_instances])


def _out_of_sight(empty: Instances) -> Instances:
    boxes = empty.gt_boxes.tensor.new_full((1, 4), _FAR)  # a list of numbers would be waited for on a GPU
    boxes[:, 2:] += 1
    return Instances(
        empty.image_size,
        gt_boxes=Boxes(boxes),
        gt_classes=torch.zeros(1, dtype=torch.int64, device=boxes.device),
    )
