"""Losses of masks, at points of which most are where the masks are least certain (PointRend, Mask2Former)."""

from collections.abc import Sequence

import torch
from detectron2.projects.point_rend.point_features import get_uncertain_point_coords_with_randomness
from torch import Tensor
from torch.nn import functional as F

from ...layers import sample_points
from ..dino.criterion import Criterion, pick
from ..dino.structures import Match, Predictions, Targets
from .matcher import MaskMatcher


class MaskCriterion(Criterion):
    """:class:`~itpn_d2.meta_arch.dino.Criterion` with cross-entropy and dice of masks.

    Args:
        weights: of ``class``, ``mask``, ``dice``, ``box`` and ``giou``; by default 4, 5, 5, 5, 2.
        num_points: points of a mask.
        oversample, importance: of ``num_points * oversample`` random points the least certain are taken, up
            to this share of ``num_points``; the rest is random.
    """

    names = ("class", "mask", "dice", "box", "giou")

    def __init__(
        self,
        matcher: MaskMatcher,
        weights: dict[str, float] | None = None,
        alpha: float = 0.25,
        gamma: float = 2.0,
        num_points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
    ):
        defaults = {"class": 4.0, "mask": 5.0, "dice": 5.0, "box": 5.0, "giou": 2.0}
        super().__init__(matcher, {**defaults, **(weights or {})}, alpha, gamma)
        self.things = matcher.things
        self.num_points, self.oversample, self.importance = num_points, oversample, importance

    def losses(
        self, predictions: Predictions, targets: Sequence[Targets], matches: Sequence[Match], count: Tensor
    ) -> dict[str, Tensor]:
        losses = super().losses(predictions, targets, matches, count)
        masks = predictions.masks
        assert masks is not None
        if not any(len(queries) for queries, _ in matches):
            nothing = (masks.embeddings.sum() + masks.features.sum()).float() * 0
            return {**losses, "mask": nothing, "dice": nothing}
        logits = torch.cat([masks.of(i, queries) for i, (queries, _) in enumerate(matches)]).float()[:, None]
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                logits, lambda x: -x.abs(), self.num_points, self.oversample, self.importance
            )
            truth = pick([t.masks for t in targets if t.masks is not None], matches)
            wanted = sample_points(truth[:, None], points)[:, 0]
        found = sample_points(logits, points)[:, 0]
        entropy = F.binary_cross_entropy_with_logits(found, wanted, reduction="none").mean(1)
        share = found.sigmoid()
        dice = 1 - (2 * (share * wanted).sum(1) + 1) / (share.sum(1) + wanted.sum(1) + 1)
        return {**losses, "mask": entropy.sum() / count, "dice": dice.sum() / count}

    def has_box(self, classes: Tensor) -> Tensor:
        everything = super().has_box(classes)
        return everything if self.things is None else everything * (classes < self.things)
