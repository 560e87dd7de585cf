"""The losses: focal for classes, L1 and generalised IoU for boxes, on every layer."""

from collections.abc import Sequence

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss

from .denoising import NoisyQueries
from .matcher import HungarianMatcher
from .structures import Match, Predictions, Targets


class Criterion:
    """Losses of all layers, each over the number of objects, by name.

    Args:
        matcher: for everything but the de-noising queries, whose objects are known.
        weights: of the losses ``class``, ``box`` and ``giou``.
        alpha, gamma: of the focal loss.
    """

    names: tuple[str, ...] = ("class", "box", "giou")

    def __init__(
        self,
        matcher: HungarianMatcher,
        weights: dict[str, float] | None = None,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ):
        self.matcher, self.alpha, self.gamma = matcher, alpha, gamma
        self.weights = {"class": 1.0, "box": 5.0, "giou": 2.0, **(weights or {})}
        unknown = sorted(set(self.weights) - set(self.names))
        if unknown:
            raise ValueError(f"weights of losses {unknown}: this criterion has {', '.join(self.names)}")

    def __call__(
        self,
        layers: Sequence[Predictions],
        selected: Predictions,
        targets: Sequence[Targets],
        noisy_layers: Sequence[Predictions] = (),
        noisy: NoisyQueries | None = None,
    ) -> dict[str, Tensor]:
        """Weighted losses.

        Args:
            layers: of the decoder, the last one last.
            selected: of the encoder.
            noisy_layers: of the de-noising queries, with what ``noisy`` says of them.

        Returns:
            ``loss_class``, ``loss_box``, ... of the last layer; with ``_aux`` the sum over the others, with
            ``_encoder`` and ``_denoising`` those. The same names for every batch.
        """
        count = self._count(targets)
        with torch.autocast(selected.logits.device.type, enabled=False):
            matches = self.matcher([*layers, selected], targets)
            parts = [("_aux", p, m, count) for p, m in zip(layers, matches, strict=False)]
            parts[-1] = ("", *parts[-1][1:])
            parts.append(("_encoder", selected, matches[-1], count))
            if noisy is not None:
                parts += [("_denoising", p, noisy.matches, count * noisy.groups) for p in noisy_layers]
            totals: dict[str, Tensor] = {}
            for suffix, predictions, found, number in parts:
                for name, loss in self.losses(predictions, targets, found, number).items():
                    key = f"loss_{name}{suffix}"
                    totals[key] = totals.get(key, 0.0) + self.weights[name] * loss
        return totals

    @staticmethod
    def _count(targets: Sequence[Targets]) -> Tensor:
        """Objects of a batch, the mean over processes, at least 1."""
        count = targets[0].boxes.new_tensor(float(sum(len(t) for t in targets)))
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(count)
        return (count / comm.get_world_size()).clamp(min=1)

    def losses(
        self, predictions: Predictions, targets: Sequence[Targets], matches: Sequence[Match], count: Tensor
    ) -> dict[str, Tensor]:
        """Those of one layer, without weights; zeros, but with gradients, where there is no object."""
        where = gather_matches(matches, predictions.logits.device)
        classes = pick([t.classes for t in targets], matches)
        logits = predictions.logits.float()
        wanted = torch.zeros_like(logits)
        wanted[(*where, classes)] = 1
        focal = sigmoid_focal_loss(logits, wanted, self.alpha, self.gamma, reduction="sum")
        boxes, known = predictions.boxes[where], pick([t.boxes for t in targets], matches)
        has_box = self.has_box(classes)
        distance = F.l1_loss(boxes, known, reduction="none").sum(-1)
        apart = generalized_box_iou_loss(
            box_convert(boxes, "cxcywh", "xyxy"), box_convert(known, "cxcywh", "xyxy")
        )
        return {
            "class": focal / count,
            "box": (distance * has_box).sum() / count,
            "giou": (apart * has_box).sum() / count,
        }

    def has_box(self, classes: Tensor) -> Tensor:
        """``(n,)`` 1 for objects of these classes whose boxes mean something, here all; else 0."""
        return torch.ones_like(classes, dtype=torch.float32)


def gather_matches(matches: Sequence[Match], device: torch.device) -> tuple[Tensor, Tensor]:
    """Images and queries of all matches, one image after another."""
    images = torch.cat([torch.full_like(queries, i) for i, (queries, _) in enumerate(matches)])
    return images.to(device), torch.cat([queries for queries, _ in matches]).to(device)


def pick(values: Sequence[Tensor], matches: Sequence[Match]) -> Tensor:
    """What the matched objects have, in the same order."""
    return torch.cat([v[objects.to(v.device)] for v, (_, objects) in zip(values, matches, strict=True)])
