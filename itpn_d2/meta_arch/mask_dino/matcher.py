"""Assignment by class, box and mask together ("unified matching")."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

from ...layers import sample_points, upload
from ..dino.matcher import HungarianMatcher
from ..dino.structures import MaskLogits, Match, Predictions, Targets


class MaskMatcher(HungarianMatcher):
    """:class:`~itpn_d2.meta_arch.dino.HungarianMatcher`, to whose costs those of masks are added.

    Masks are compared at points of a Sobol sequence, evenly spread and the same each time. Sampling commutes
    with the product that makes masks, so features are sampled once for all layers and no mask is made.

    Args:
        mask_cost, dice_cost: weights of cross-entropy and dice of masks.
        num_points: to compare masks at.
        things: number of the first classes, whose boxes mean something; for each query, the others' boxes
            cost what things' cost on average. None, as published: all boxes cost what they cost.
        alpha, gamma: of the focal loss.
    """

    def __init__(
        self,
        class_cost: float = 4.0,
        box_cost: float = 5.0,
        giou_cost: float = 2.0,
        mask_cost: float = 5.0,
        dice_cost: float = 5.0,
        num_points: int = 12544,
        things: int | None = None,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        super().__init__(class_cost, box_cost, giou_cost, alpha, gamma)
        self.mask_cost, self.dice_cost, self.things = mask_cost, dice_cost, things
        with torch.device("cpu"):
            self.points = SobolEngine(2).draw(num_points)

    @torch.no_grad()
    def __call__(self, layers: Sequence[Predictions], targets: Sequence[Targets]) -> list[list[Match]]:
        """As of :class:`~itpn_d2.meta_arch.dino.HungarianMatcher`; predictions and targets need masks."""
        assert layers[0].masks is not None
        features = layers[0].masks.features
        self.points = upload(self.points, features.device)  # stays there: copied in the first step alone
        points = self.points
        sampled = sample_points(features, points.expand(len(features), -1, -1))
        layers = [
            replace(p, masks=MaskLogits(p.masks.embeddings, sampled)) for p in layers if p.masks is not None
        ]
        seen = []
        for t in targets:
            assert t.masks is not None
            seen.append(replace(t, masks=sample_points(t.masks[None], points[None])[0]))
        return super().__call__(layers, seen)

    def costs(self, predictions: Predictions, image: int, targets: Targets) -> Tensor:
        """``(Q, n)`` of one image of the batch, whose masks are sampled at points."""
        assert predictions.masks is not None and targets.masks is not None
        logits, wanted = predictions.masks.of(image).float(), targets.masks
        filled, empty = F.softplus(-logits), F.softplus(logits)
        entropy = (filled @ wanted.T + empty @ (1 - wanted).T) / logits.shape[1]
        share = logits.sigmoid()
        overlap = 2 * share @ wanted.T
        dice = 1 - (overlap + 1) / (share.sum(1)[:, None] + wanted.sum(1) + 1)
        others = super().costs(predictions, image, targets)
        return others + self.mask_cost * entropy + self.dice_cost * dice

    def box_costs(self, costs: Tensor, targets: Targets) -> Tensor:
        """``(Q, n)``; for objects that are no things, the mean over a query's costs of things."""
        if self.things is None:
            return costs
        thing = targets.classes < self.things
        mean = torch.where(thing, costs, 0).sum(1, keepdim=True) / thing.sum().clamp(min=1)
        return torch.where(thing, costs, mean)
