"""Which cells of the memory start as queries: two stages, mixed query selection (DINO)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from .geometry import Geometry
from .reference import OURS, Reference
from .structures import Predictions, inverse_sigmoid

_SIZE = 0.05  # of a proposal on the first level, in fractions of the image; twice that on the next
_BORDER = 0.01  # centres closer to the image's border propose nothing


@dataclass(frozen=True)
class Selected:
    """Where queries start: the best cells of each image, or learnt queries.

    Attributes:
        tokens: ``(B, K, C)`` their features.
        anchors: ``(B, K, 4)`` logits of their boxes.
        predictions: classes and boxes, for the loss; None of learnt queries.
        cells: ``(B, K)`` their numbers among all cells; None of learnt queries.
    """

    tokens: Tensor
    anchors: Tensor
    predictions: Predictions | None
    cells: Tensor | None


class QuerySelection(nn.Module):
    """Every cell proposes a box and classes; the cells whose best class scores highest are taken.

    Padding and the image's very border propose nothing, unless there are too few other cells.

    Args:
        heads: has its own heads; if not, it is given those of the decoder's layers, as in Mask DINO.
        coarsest_first: the smallest proposals are those of the coarsest level, as in Mask DINO's code.
    """

    def __init__(self, dim: int, num_classes: int, heads: bool = True, coarsest_first: bool = False):
        super().__init__()
        self.coarsest_first = coarsest_first
        self.proj = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.class_head = class_head(dim, num_classes) if heads else None
        self.box_head = box_head(dim) if heads else None

    def forward(
        self,
        memory: Tensor,
        geometry: Geometry,
        count: int,
        rules: Reference = OURS,
        heads: tuple[nn.Module, nn.Module] | None = None,
    ) -> Selected:
        """The best ``count`` cells of each image, or all where there are fewer.

        Args:
            memory: ``(B, S, C)``.
            heads: of classes and boxes, for a selection that has none.
        """
        if self.class_head is not None and self.box_head is not None:
            heads = self.class_head, self.box_head
        assert heads is not None, "a selection without its own heads must be given those of the decoder"
        classes, boxes = heads
        proposals, silent = self.propose(geometry, rules)
        tokens = self.norm(self.proj(memory.masked_fill(silent[..., None], 0)))
        logits = classes(tokens)
        best = logits.detach().float().amax(-1)
        if not rules.silent_tokens:
            best = best.masked_fill(silent, -math.inf)
        chosen = best.topk(min(count, best.shape[1]), dim=1).indices[..., None]
        tokens = tokens.gather(1, chosen.expand(-1, -1, tokens.shape[-1]))
        logits = logits.gather(1, chosen.expand(-1, -1, logits.shape[-1]))
        start = inverse_sigmoid(proposals.gather(1, chosen.expand(-1, -1, 4)))
        if rules.silent_tokens:
            start = start.masked_fill(silent[..., None].gather(1, chosen), math.inf)
        anchors = boxes(tokens).float() + start
        return Selected(tokens, anchors, Predictions(logits, anchors.sigmoid()), chosen[..., 0])

    def propose(self, geometry: Geometry, rules: Reference) -> tuple[Tensor, Tensor]:
        """The box ``(B, S, 4)`` that each cell starts from, and True ``(B, S)`` for those that propose
        nothing."""
        centres, levels = geometry.centres, geometry.level_numbers()
        if self.coarsest_first:
            levels = len(geometry.shapes) - 1 - levels
        sizes = _SIZE * 2.0 ** levels.float()[None, :, None]
        proposals = torch.cat((centres, sizes.expand_as(centres)), -1)
        if rules.silent_tokens:  # a proposal on the very limit is silent there
            silent = ((proposals <= _BORDER) | (proposals >= 1 - _BORDER)).any(-1)
        else:
            silent = ((proposals < _BORDER) | (proposals > 1 - _BORDER)).any(-1)
        if geometry.padding is not None:
            silent = silent | geometry.padding
        return proposals, silent


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
