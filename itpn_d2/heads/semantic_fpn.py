"""The semantic head of Panoptic FPN (Kirillov et al., CVPR'19), Detectron2's."""

from typing import Any

import torch
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead as Detectron2SemSegFPNHead
from torch import Tensor


class SemSegFPNHead(Detectron2SemSegFPNHead):
    """Detectron2's, whose loss is 0 where all pixels of a batch are ignored, instead of nan."""

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The cross-entropy, a mean over the pixels that are not ignored.

        Args:
            predictions: logits ``(B, num_classes, h, w)``.
            targets: ``(B, H, W)`` int64.
        """
        found: dict[str, Any] = super().losses(predictions, targets)
        nothing = (targets == self.ignore_value).all()
        return {
            name: torch.where(nothing, predictions.float().sum() * 0.0, loss) for name, loss in found.items()
        }
