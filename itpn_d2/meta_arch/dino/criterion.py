"""The losses: of classes (focal or cross-entropy), L1 and generalised IoU of boxes, on every layer.

Layers are judged side by side. The assignments of all of them go to the device in one copy, and no loss is
read back, so that a training step waits for the device only where the matcher needs the costs.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, sigmoid_focal_loss

from ...layers import everywhere
from .assignment import Assignment, gather_targets
from .denoising import NoisyQueries
from .matcher import HungarianMatcher
from .structures import Predictions, Targets

ClassLoss = Literal["focal", "cross_entropy"]


class Criterion:
    """Losses of all layers, by name. All are sums over the number of objects, except a cross-entropy of
    classes, which is a weighted mean over queries.

    Args:
        matcher: for everything but the de-noising queries, whose objects are known.
        weights: of the losses ``class``, ``box`` and ``giou``.
        alpha, gamma: of the focal loss.
        class_loss: ``focal`` over K logits, a sigmoid each; or ``cross_entropy`` over K + 1, the last of
            which is no object (Mask DINO's recipe for ADE20K).
        no_object_weight: of that last class in the cross-entropy.
        giou_eps: what divisions of the generalised IoU add to areas, in fractions of an image. With 1e-6, as
            in the public DINO and Mask DINO, a box of 10 pixels in 1000 that is found exactly has a loss of
            .01.
        unused_slots: de-noising queries that only fill up an image with fewer objects than another count as
            "no object" in the loss of classes, as in the public DINO and Mask DINO. If not, they are left
            out, so that an image's losses do not depend on its batch.

    Raises:
        ValueError: an unknown ``class_loss``, or ``weights`` of a loss that there is not.
    """

    names: tuple[str, ...] = ("class", "box", "giou")

    def __init__(
        self,
        matcher: HungarianMatcher,
        weights: dict[str, float] | None = None,
        alpha: float = 0.25,
        gamma: float = 2.0,
        class_loss: ClassLoss = "focal",
        no_object_weight: float = 0.1,
        giou_eps: float = 1e-7,
        unused_slots: bool = False,
    ):
        if class_loss not in get_args(ClassLoss):
            raise ValueError(f"class_loss {class_loss!r}: choose {', '.join(get_args(ClassLoss))}")
        self.matcher, self.alpha, self.gamma = matcher, alpha, gamma
        self.class_loss: ClassLoss = class_loss
        self.no_object_weight, self.giou_eps, self.unused_slots = no_object_weight, giou_eps, unused_slots
        self.weights = {"class": 1.0, "box": 5.0, "giou": 2.0, **(weights or {})}
        unknown = sorted(set(self.weights) - set(self.names))
        if unknown:
            raise ValueError(
                f"weights of losses {unknown}: the losses of this criterion are {', '.join(self.names)}"
            )

    def __call__(
        self,
        layers: Sequence[Predictions],
        selected: Predictions | None,
        targets: Sequence[Targets],
        noisy_layers: Sequence[Predictions] = (),
        noisy: NoisyQueries | None = None,
    ) -> dict[str, Tensor]:
        """Weighted losses.

        Args:
            layers: of the decoder, the last one last; before them a prediction from the queries as they
                start, where there is one.
            selected: of the encoder, whose cells are the queries; None where queries are learnt.
            noisy_layers: of the de-noising queries, with what ``noisy`` says of them.

        Returns:
            ``loss_class``, ``loss_box``, ... of the last layer; with ``_aux`` the sum over the others, with
            ``_encoder`` and ``_denoising`` those. The same names for every batch.
        """
        matching = [*layers, *([] if selected is None else [selected])]
        with torch.autocast(layers[0].logits.device.type, enabled=False):
            found, known = self.layer_losses(matching, targets, noisy_layers, noisy)
            totals: dict[str, Tensor] = {}
            for name, losses in found.items():
                losses = self.weights[name] * losses
                totals[f"loss_{name}"] = losses[len(layers) - 1]
                if len(layers) > 1:
                    totals[f"loss_{name}_aux"] = losses[: len(layers) - 1].sum()
                if selected is not None:
                    totals[f"loss_{name}_encoder"] = losses[-1]
            for name, losses in known.items():
                totals[f"loss_{name}_denoising"] = self.weights[name] * losses.sum()
        return totals

    def layer_losses(
        self,
        layers: Sequence[Predictions],
        targets: Sequence[Targets],
        noisy_layers: Sequence[Predictions] = (),
        noisy: NoisyQueries | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The losses of each layer without weights, by name: ``(P,)`` of queries to be matched, and ``(L,)``
        of de-noising queries (none where ``noisy`` is None). All predictions are of one shape."""
        device = layers[0].logits.device
        matches = [self.matcher(layers, targets)]
        queries = [layers[0].logits.shape[1]]
        if noisy is not None:
            matches.append([noisy.matches])
            queries.append(len(noisy))
        assignments = Assignment.of(matches, targets, queries, device)
        together, count = gather_targets(targets), self._count(targets, device)
        found = self.losses(layers, together, assignments[0], count)
        if noisy is None:
            return found, {}
        ignored = None if self.unused_slots else noisy.unused[:, : len(noisy)]
        known = assignments[1].expand(len(noisy_layers))
        return found, self.losses(noisy_layers, together, known, count * noisy.groups, ignored)

    @staticmethod
    def _count(targets: Sequence[Targets], device: torch.device) -> Tensor:
        """Objects of a batch, at least 1; in training the mean over processes, which for a validation loss
        may have different numbers of batches."""
        count = torch.full((), float(sum(len(t) for t in targets)), device=device)
        return everywhere(count).to(count.dtype).clamp(min=1)

    def losses(
        self,
        layers: Sequence[Predictions],
        targets: Targets,
        assignment: Assignment,
        count: Tensor,
        ignored: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """``(P,)`` each, without weights; zeros, but with gradients, where there is no object.

        Args:
            targets: the objects of all images, one after another.
            ignored: ``(B, Q)``, True for queries whose classes have no loss.
        """
        classes = targets.classes[assignment.objects]
        boxes = torch.stack([p.boxes.flatten(0, 1) for p in layers]).flatten(0, 1).float()
        boxes = boxes.index_select(0, assignment.places.flatten()).unflatten(0, assignment.places.shape)
        known, has_box = targets.boxes[assignment.objects], self.has_box(classes)
        distance = (boxes - known).abs().sum(-1)
        apart = 1 - generalized_iou(boxes, known, self.giou_eps)
        return {
            "class": self._class_losses(layers, classes, assignment, count, ignored),
            "box": (distance * has_box).sum(1) / count,
            "giou": (apart * has_box).sum(1) / count,
        }

    def _class_losses(
        self,
        layers: Sequence[Predictions],
        classes: Tensor,
        assignment: Assignment,
        count: Tensor,
        ignored: Tensor | None,
    ) -> Tensor:
        logits = torch.stack([p.logits.flatten(0, 1) for p in layers]).float()  # (P, B * Q, K)
        width = logits.shape[2]
        counted = None if ignored is None else (~ignored).flatten().float()
        places = assignment.places.flatten()
        if self.class_loss == "focal":
            wanted = torch.zeros_like(logits)
            wanted.view(-1).index_fill_(0, places * width + classes.flatten(), 1.0)
            focal = sigmoid_focal_loss(logits, wanted, self.alpha, self.gamma, reduction="none").sum(2)
            return (focal if counted is None else focal * counted).sum(1) / count
        labels = torch.full(logits.shape[:2], width - 1, device=logits.device)
        labels.view(-1).scatter_(0, places, classes.flatten())
        nothing = labels == width - 1
        importance = torch.where(nothing, self.no_object_weight, 1.0)
        if counted is not None:
            importance = importance * counted
        entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
        return (entropy * importance).sum(1) / everywhere(importance.sum(1)).clamp(min=1e-6).to(entropy.dtype)

    def has_box(self, classes: Tensor) -> Tensor:
        """1 for objects of these classes whose boxes mean something, here all; else 0; in float32.

        The result has the shape of ``classes``.
        """
        return torch.ones_like(classes, dtype=torch.float32)


def generalized_iou(boxes: Tensor, others: Tensor, eps: float) -> Tensor:
    """``(...)`` of boxes ``(..., 4)`` (x, y, w, h), pair by pair.

    torchvision's reads back which pairs overlap; this one waits for nothing.
    """
    (x1, y1, x2, y2), (u1, v1, u2, v2) = (
        box_convert(b, "cxcywh", "xyxy").unbind(-1) for b in (boxes, others)
    )
    shared = (x2.minimum(u2) - x1.maximum(u1)).clamp(min=0) * (y2.minimum(v2) - y1.maximum(v1)).clamp(min=0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    hull = (x2.maximum(u2) - x1.minimum(u1)) * (y2.maximum(v2) - y1.minimum(v1))
    return shared / (union + eps) - (hull - union) / (hull + eps)
