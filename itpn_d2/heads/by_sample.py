"""Detectron2's heads with training examples that belong to the samples, and with losses over all processes.

Detectron2 picks anchors, proposals and points from a random state of the process, and takes the mean of a
loss over what its process has picked. These heads give the results of one process with the whole batch: see
:mod:`itpn_d2.layers.draws`.
"""

from typing import Any

import torch
from detectron2.modeling.proposal_generator import RPN as Detectron2RPN
from detectron2.modeling.roi_heads import CascadeROIHeads as Detectron2CascadeROIHeads
from detectron2.modeling.roi_heads import KRCNNConvDeconvUpsampleHead
from detectron2.modeling.roi_heads import StandardROIHeads as Detectron2StandardROIHeads
from detectron2.structures import Instances
from torch import Tensor

from ..layers import Reseeded, apart, shares, upload


class RPN(Detectron2RPN):
    """Detectron2's, whose anchors of an image are picked by the image's own numbers."""

    def label_and_sample_anchors(self, anchors: Any, gt_instances: list[Instances]) -> Any:
        """Of each image, labels ``(A,)`` of its anchors (1 object, 0 background, -1 left out) and the boxes
        ``(A, 4)`` that they match."""
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
        total = torch.full((), len(classes), device=classes.device)
        self._shares = shares(torch.stack((total, foreground.sum())))
        return found

    def _sample_proposals(self, *arguments: Tensor) -> Any:
        self._turns.next_image()
        return super()._sample_proposals(*arguments)  # type: ignore[misc]

    def _forward_box(self, *arguments: Any) -> Any:
        return self._weigh_boxes(super()._forward_box(*arguments))  # type: ignore[misc]

    def _forward_mask(self, *arguments: Any) -> Any:
        return self._weighted(super()._forward_mask(*arguments), 1)  # type: ignore[misc]

    def _weigh_boxes(self, losses: Any) -> Any:
        return self._weighted(losses, 0)

    def _weighted(self, losses: Any, which: int) -> Any:
        if not self.training or self._shares is None:  # type: ignore[attr-defined]
            return losses
        return {name: _times(loss, self._shares[which]) for name, loss in losses.items()}


def _times(loss: Tensor, share: Tensor) -> Tensor:
    return loss * share.to(loss.dtype)


class StandardROIHeads(_BySample, Detectron2StandardROIHeads):
    """Detectron2's, whose proposals of an image are picked by the image's own numbers; the losses of boxes
    and masks are means over the examples of all processes."""


class CascadeROIHeads(_BySample, Detectron2CascadeROIHeads):
    """Detectron2's, as :class:`StandardROIHeads`. A stage keeps the boxes of the one before that are not
    empty, so that each has examples of its own number."""

    def _forward_box(self, *arguments: Any) -> Any:
        self._kept: list[int] = []  # examples of the stages after the first
        return super()._forward_box(*arguments)

    def _match_and_label_boxes(self, proposals: list[Instances], stage: int, targets: Any) -> Any:
        found = super()._match_and_label_boxes(proposals, stage, targets)
        self._kept.append(sum(len(one) for one in found))
        return found

    def _weigh_boxes(self, losses: Any) -> Any:
        if not self.training or self._shares is None:
            return losses
        later = shares(upload(torch.tensor(self._kept), self._shares.device))
        assert later is not None
        stages = [self._shares[0], *later]
        return {name: _times(loss, stages[int(name.rpartition("stage")[2])]) for name, loss in losses.items()}


class KeypointHead(KRCNNConvDeconvUpsampleHead):
    """Detectron2's; with ``loss_normalizer="visible"`` the loss is a mean over the visible keypoints of all
    processes."""

    def forward(self, x: Tensor, instances: list[Instances]) -> Any:
        """Features ``(N, C, h, w)`` of boxes to losses by name in training, else to ``instances`` with
        ``pred_keypoints``."""
        found = super().forward(x, instances)
        if not (self.training and self.loss_normalizer == "visible" and apart()):
            return found
        share = shares(self._visible(instances, 4 * x.shape[-1]).to(x.device))
        assert share is not None
        return {name: _times(loss, share) for name, loss in found.items()}

    @staticmethod
    def _visible(instances: list[Instances], side: int) -> Tensor:
        """Keypoints that the loss counts: those within the boxes."""
        seen = [
            i.gt_keypoints.to_heatmap(i.proposal_boxes.tensor, side)[1].sum() for i in instances if len(i)
        ]
        return torch.stack(seen).sum() if seen else torch.zeros((), dtype=torch.int64)
