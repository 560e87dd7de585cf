"""The semantic head of Panoptic FPN (Kirillov et al., CVPR'19), Detectron2's."""

from typing import Any

import torch
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead as Detectron2SemSegFPNHead
from torch import Tensor

from ..layers import shares


class SemSegFPNHead(Detectron2SemSegFPNHead):
    """Detectron2's, whose loss is 0 where all pixels of a batch are ignored, instead of nan."""

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The cross-entropy, a mean over the pixels of all processes that are not ignored.

        Args:
            predictions: logits ``(B, num_classes, h, w)``.
            targets: ``(B, H, W)`` int64.
        """
        found: dict[str, Any] = super().losses(predictions, targets)
        counted = (targets != self.ignore_value).sum()
        share, none = shares(counted), predictions.float().sum() * 0.0
        losses = {name: torch.where(counted == 0, none, loss) for name, loss in found.items()}
        return losses if share is None else {k: loss * share.to(loss.dtype) for k, loss in losses.items()}
