"""Which cells of the memory start as queries: two stages, mixed query selection (DINO)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from .geometry import Geometry
from .structures import Predictions, inverse_sigmoid

_SIZE = 0.05  # of a proposal on the finest level, in fractions of the image; twice that on the next
_BORDER = 0.01  # centres closer to the image's border propose nothing


@dataclass(frozen=True)
class Selected:
    """The best cells of each image.

    Attributes:
        tokens: ``(B, K, C)`` their features.
        anchors: ``(B, K, 4)`` logits of their boxes.
        predictions: classes and boxes, for the loss.
    """

    tokens: Tensor
    anchors: Tensor
    predictions: Predictions


class QuerySelection(nn.Module):
    """Every cell proposes a box and classes; the cells whose best class scores highest are taken.

    Padding and the image's very border propose nothing, unless there are too few other cells.
    """

    def __init__(self, dim: int, num_classes: int):
        super().__init__()
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.class_head = class_head(dim, num_classes)
        self.box_head = box_head(dim)

    def forward(self, memory: Tensor, geometry: Geometry, count: int) -> Selected:
        """The best ``count`` cells of each image, or all where there are fewer.

        Args:
            memory: ``(B, S, C)``.
        """
        centres = geometry.centres
        sizes = _SIZE * 2.0 ** geometry.level_numbers().float()[None, :, None]
        proposals = torch.cat((centres, sizes.expand_as(centres)), -1)
        silent = ((proposals < _BORDER) | (proposals > 1 - _BORDER)).any(-1)
        if geometry.padding is not None:
            silent = silent | geometry.padding
        tokens = self.norm(self.proj(memory.masked_fill(silent[..., None], 0)))
        logits = self.class_head(tokens)
        best = logits.detach().float().amax(-1).masked_fill(silent, -math.inf)
        chosen = best.topk(min(count, best.shape[1]), dim=1).indices[..., None]
        tokens = tokens.gather(1, chosen.expand(-1, -1, tokens.shape[-1]))
        logits = logits.gather(1, chosen.expand(-1, -1, logits.shape[-1]))
        start = inverse_sigmoid(proposals.gather(1, chosen.expand(-1, -1, 4)))
        anchors = self.box_head(tokens).float() + start
        return Selected(tokens, anchors, Predictions(logits, anchors.sigmoid()))


def class_head(dim: int, num_classes: int) -> nn.Linear:
    """Linear, with logits that say 1 % at first (RetinaNet's prior for the focal loss)."""
    head = nn.Linear(dim, num_classes)
    nn.init.constant_(head.bias, -math.log(99))
    return head


def box_head(dim: int) -> MLP:
    """Three layers to four numbers, which shift a box's logits; zeros at first."""
    head = MLP(dim, [dim, dim, 4])
    last = next(layer for layer in reversed(head) if isinstance(layer, nn.Linear))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return head
