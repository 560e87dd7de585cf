"""Detectron2's heads with training examples that belong to the samples, and with losses over all processes.

Detectron2 picks anchors, proposals and points from a random state of the process, and takes the mean of a
loss over what its process has picked. These give what one process with the whole batch would give: see
:mod:`itpn_d2.layers.draws`.
"""

from typing import Any

import torch
from detectron2.modeling.proposal_generator import RPN as Detectron2RPN
from detectron2.modeling.roi_heads import CascadeROIHeads as Detectron2CascadeROIHeads
from detectron2.modeling.roi_heads import StandardROIHeads as Detectron2StandardROIHeads
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import Tensor

from ..layers import Reseeded


def shares(counts: Tensor) -> Tensor | None:
    """What a mean over this process's ``counts`` examples is multiplied with, so that the mean over processes
    is one over all examples; None where there is one process, or where others may not come, as in a
    validation loss."""
    if comm.get_world_size() == 1 or not torch.is_grad_enabled():
        return None
    everywhere = counts.clone()
    torch.distributed.all_reduce(everywhere)
    return counts * comm.get_world_size() / everywhere.clamp(min=1)


class RPN(Detectron2RPN):
    """Detectron2's, whose anchors of an image are picked by the image's own numbers."""

    def label_and_sample_anchors(self, anchors: Any, gt_instances: list[Instances]) -> Any:
        self._turns = Reseeded("anchors", len(gt_instances))
        return super().label_and_sample_anchors(anchors, gt_instances)

    def _subsample_labels(self, label: Tensor) -> Tensor:
        self._turns.next_image()
        return super()._subsample_labels(label)


class _BySample:
    """For Detectron2's RoI heads."""

    _shares: Tensor | None = None

    def label_and_sample_proposals(self, proposals: list[Instances], targets: list[Instances]) -> Any:
        self._turns = Reseeded("proposals", len(targets))
        found = super().label_and_sample_proposals(proposals, targets)  # type: ignore[misc]
        classes = torch.cat([p.gt_classes for p in found])
        foreground = (classes >= 0) & (classes < self.num_classes)  # type: ignore[attr-defined]
        total = torch.full((), float(len(classes)), device=classes.device)
        self._shares = shares(torch.stack((total, foreground.sum().float())))
        return found

    def _sample_proposals(self, *arguments: Tensor) -> Any:
        self._turns.next_image()
        return super()._sample_proposals(*arguments)  # type: ignore[misc]

    def _forward_box(self, *arguments: Any) -> Any:
        return self._weighted(super()._forward_box(*arguments), 0)  # type: ignore[misc]

    def _forward_mask(self, *arguments: Any) -> Any:
        return self._weighted(super()._forward_mask(*arguments), 1)  # type: ignore[misc]

    def _weighted(self, losses: Any, which: int) -> Any:
        if not self.training or self._shares is None:  # type: ignore[attr-defined]
            return losses
        return {name: loss * self._shares[which] for name, loss in losses.items()}


class StandardROIHeads(_BySample, Detectron2StandardROIHeads):
    """Detectron2's, whose proposals of an image are picked by the image's own numbers; the losses of boxes
    and masks are means over the examples of all processes."""


class CascadeROIHeads(_BySample, Detectron2CascadeROIHeads):
    """Detectron2's, as :class:`StandardROIHeads`."""
