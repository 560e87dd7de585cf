"""Which query is trained to find which object: the cheapest one-to-one assignment (DETR)."""

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou

from .structures import Match, Predictions, Targets

_WORST = 1e6  # stands for a cost that is no number


class HungarianMatcher:
    """Assigns queries to objects, by class (focal form), distance and overlap of boxes.

    Costs are computed in float32 also under mixed precision. Degenerate boxes, in predictions or truth, are
    no error: costs that are not a number count as the worst.

    Args:
        class_cost, box_cost, giou_cost: weights of the three.
        alpha, gamma: of the focal loss.
    """

    def __init__(
        self,
        class_cost: float = 2.0,
        box_cost: float = 5.0,
        giou_cost: float = 2.0,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        self.class_cost, self.box_cost, self.giou_cost = class_cost, box_cost, giou_cost
        self.alpha, self.gamma = alpha, gamma

    @torch.no_grad()
    def __call__(self, layers: Sequence[Predictions], targets: Sequence[Targets]) -> list[list[Match]]:
        """For each layer and image: numbers of the queries and of their objects; every object has a query,
        as long as there are enough. All costs go to the CPU in one transfer."""
        with torch.autocast(layers[0].logits.device.type, enabled=False):
            costs = [[self.costs(p, i, t) for i, t in enumerate(targets)] for p in layers]
        flat = torch.cat([c.flatten() for row in costs for c in row])
        flat = flat.nan_to_num(_WORST, _WORST, -_WORST).cpu()
        parts = iter(flat.split([c.numel() for row in costs for c in row]))
        return [[self._assign(next(parts).view(cost.shape)) for cost in row] for row in costs]

    @staticmethod
    def _assign(cost: Tensor) -> Match:
        queries, objects = linear_sum_assignment(cost.numpy())
        return torch.from_numpy(queries).long(), torch.from_numpy(objects).long()

    def costs(self, predictions: Predictions, image: int, targets: Targets) -> Tensor:
        """``(Q, n)`` of one image of the batch."""
        logits = predictions.logits[image].float()[:, targets.classes]
        boxes, wanted = predictions.boxes[image].float(), targets.boxes
        found, missed = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = -self.alpha * missed.exp() ** self.gamma * found
        negative = -(1 - self.alpha) * found.exp() ** self.gamma * missed
        overlap = generalized_box_iou(
            box_convert(boxes, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy")
        )
        return self.class_cost * (positive - negative) + self.box_costs(
            self.box_cost * torch.cdist(boxes, wanted, p=1) - self.giou_cost * overlap, targets
        )

    def box_costs(self, costs: Tensor, targets: Targets) -> Tensor:
        """``(Q, n)`` as they are; a subclass may know objects without boxes."""
        return costs
