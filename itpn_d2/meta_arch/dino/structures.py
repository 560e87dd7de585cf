"""The data passed between the parts: targets, predictions, and boxes as logits."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# of an image: numbers of queries, and of the targets that they are trained to find
Match = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Targets:
    """Objects of one image.

    Attributes:
        classes: ``(n,)`` int64.
        boxes: ``(n, 4)`` float32, (x, y, w, h) of centre and size, in fractions of the image without padding.
        masks: ``(n, H, W)`` bool over the padded image, where masks are learnt.
    """

    classes: Tensor
    boxes: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class MaskLogits:
    """Masks of a layer as the factors of their product, since all masks together would fill the memory.

    Attributes:
        embeddings: ``(B, Q, C)``.
        features: ``(B, C, ...)``, of maps at stride 4 or of some points.
    """

    embeddings: Tensor
    features: Tensor

    def of(self, image: int, queries: Tensor | slice = slice(None)) -> Tensor:
        """``(n, ...)`` logits of some queries of an image of the batch, all by default."""
        features = self.features[image]
        chosen = self.embeddings[image][queries].to(features.dtype)
        return (chosen @ features.flatten(1)).unflatten(1, features.shape[1:])


@dataclass(frozen=True)
class Predictions:
    """The predictions of one layer for a batch.

    Attributes:
        logits: ``(B, Q, num_classes)``, for a sigmoid each.
        boxes: ``(B, Q, 4)`` float32, as in :class:`Targets`.
        masks: where masks are predicted, over the padded image.
    """

    logits: Tensor
    boxes: Tensor
    masks: MaskLogits | None = None

    def queries(self, start: int | None, end: int | None) -> "Predictions":
        """Those of some of the queries."""
        chosen = slice(start, end)
        masks = self.masks and replace(self.masks, embeddings=self.masks.embeddings[:, chosen])
        return Predictions(self.logits[:, chosen], self.boxes[:, chosen], masks)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logits of numbers in 0..1, of any shape, which are kept ``eps`` away from both ends."""
    return torch.logit(x, eps=eps)


def bounded_logit(x: Tensor, eps: float) -> Tensor:
    """Logits of numbers in 0..1 as the public DINO has them: ``x`` and ``1 - x`` are ``eps`` at least.

    Of any shape.
    """
    x = x.clamp(0, 1)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))
