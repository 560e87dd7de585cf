"""Losses of masks, at points of which most are where the masks are least certain (PointRend, Mask2Former)."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.projects.point_rend.point_features import get_uncertain_point_coords_with_randomness
from torch import Tensor
from torch.nn import functional as F

from ...layers import Reseeded, sample_points
from ..dino.assignment import Assignment
from ..dino.criterion import Criterion
from ..dino.structures import Predictions, Targets
from .matcher import MaskMatcher


class MaskCriterion(Criterion):
    """:class:`~itpn_d2.meta_arch.dino.Criterion` with cross-entropy and dice of masks.

    Args:
        weights: of ``class``, ``mask``, ``dice``, ``box`` and ``giou``; by default 4, 5, 5, 5, 2.
        num_points: points of a mask.
        oversample, importance: of ``num_points * oversample`` random points the least certain are taken, up
            to this share of ``num_points``; the rest is random.
        things: number of the first classes, whose boxes mean something; those of further classes have no
            loss, which is still divided by all objects. None, as published (``PANO_BOX_LOSS`` False): all
            have one.
        options: of ``Criterion``.
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
        things: int | None = None,
        **options: Any,
    ):
        defaults = {"class": 4.0, "mask": 5.0, "dice": 5.0, "box": 5.0, "giou": 2.0}
        super().__init__(matcher, {**defaults, **(weights or {})}, alpha, gamma, **options)
        self.things = things
        self.num_points, self.oversample, self.importance = num_points, oversample, importance

    def losses(
        self,
        layers: Sequence[Predictions],
        targets: Targets,
        assignment: Assignment,
        count: Tensor,
        ignored: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Those of :class:`~itpn_d2.meta_arch.dino.Criterion`, and ``mask`` and ``dice``: ``(P,)`` each,
        without weights."""
        others = super().losses(layers, targets, assignment, count, ignored)
        pairs = [
            self._mask_losses(predictions, targets, queries, objects, assignment.counts)
            for predictions, queries, objects in zip(
                layers, assignment.queries, assignment.objects, strict=True
            )
        ]
        entropy, dice = (torch.stack(x) / count for x in zip(*pairs, strict=True))
        return {**others, "mask": entropy, "dice": dice}

    def _mask_losses(
        self, predictions: Predictions, targets: Targets, queries: Tensor, objects: Tensor, counts: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Sums over the pairs of one layer. Layers come one by one, since the masks of all would fill the
        memory."""
        masks = predictions.masks
        assert masks is not None and targets.masks is not None
        if not sum(counts):
            nothing = (masks.embeddings.sum() + masks.features.sum()).float() * 0
            return nothing, nothing
        parts = enumerate(queries.split(counts))
        logits = torch.cat([masks.of(image, chosen) for image, chosen in parts]).float()[:, None]
        with torch.no_grad():
            points = self._points(logits, counts)
            wanted = sample_points(targets.masks[objects][:, None], points)[:, 0]
        found = sample_points(logits, points)[:, 0]
        entropy = F.binary_cross_entropy_with_logits(found, wanted, reduction="none").mean(1)
        share = found.sigmoid()
        dice = 1 - (2 * (share * wanted).sum(1) + 1) / (share.sum(1) + wanted.sum(1) + 1)
        return entropy.sum(), dice.sum()

    def _points(self, logits: Tensor, counts: list[int]) -> Tensor:
        """:meth:`points` of each image's masks by the image's own random numbers; the images have ``counts``
        masks."""
        turns, found = Reseeded("mask points", len(counts)), []
        for of_image in logits.split(counts):
            turns.next_image()
            if len(of_image):
                found.append(self.points(of_image))
        return torch.cat(found)

    def points(self, logits: Tensor) -> Tensor:
        """``(n, num_points, 2)`` in 0..1: where to look at masks ``(n, 1, H, W)``."""
        return get_uncertain_point_coords_with_randomness(
            logits, lambda x: -x.abs(), self.num_points, self.oversample, self.importance
        )

    def has_box(self, classes: Tensor) -> Tensor:
        """1 for objects of these classes whose boxes have a loss, else 0; in float32.

        The result has the shape of ``classes``.
        """
        everything = super().has_box(classes)
        return everything if self.things is None else everything * (classes < self.things)
