"""The decoder: queries with boxes that every layer refines (DAB-DETR, Deformable DETR, DINO)."""

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from ...backbone.checkpointing import Block
from ...layers.deformable import DeformableAttention, Shapes
from .geometry import Geometry, sine_embedding
from .reference import OURS, Reference
from .selection import box_head
from .structures import bounded_logit

_TEMPERATURE = 10000.0  # of the boxes' embedding


class DecoderLayer(Block):
    """Self-attention of the queries, deformable attention to the memory, a ReLU network; a norm after
    each."""

    def __init__(self, dim: int, num_heads: int, hidden: int, levels: int, points: int):
        super().__init__()
        self.self_attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm1 = nn.LayerNorm(dim)
        self.attention = DeformableAttention(dim, num_heads, levels, points)
        self.norm2 = nn.LayerNorm(dim)
        self.feed_forward = MLP(dim, [hidden, dim])
        self.norm3 = nn.LayerNorm(dim)

    def compute(
        self,
        x: Tensor,
        position: Tensor,
        reference: Tensor,
        memory: Tensor,
        shapes: Shapes,
        padding: Tensor | None,
        blocked: Tensor | None,
        unused: Tensor | None,
    ) -> Tensor:
        """Queries ``(B, Q, C)`` to the same shape.

        Args:
            position: ``(B, Q, C)``, added to the queries where they attend.
            reference: ``(B, Q, L, 4)`` boxes (x, y, w, h) in fractions of each level.
            memory: ``(B, S, C)``, the cells of levels ``shapes``.
            padding: ``(B, S)``, True where a cell is no image.
            blocked, unused: as in :meth:`Decoder.forward`.
        """
        placed = x + position
        seen, _ = self.self_attention(
            placed, placed, x, key_padding_mask=unused, attn_mask=blocked, need_weights=False
        )
        x = self.norm1(x + seen)
        x = self.norm2(x + self.attention(x + position, reference, memory, shapes, padding))
        return self.norm3(x + self.feed_forward(x))


class Decoder(nn.Module):
    """Queries and their boxes through all layers; arguments as of the encoder.

    All layers share one norm before the heads.

    Args:
        share_heads: all layers share one box head too (ours, the official DINO and Mask DINO; a detector's
            class heads follow); if not, each has one, as in detrex.
        refine_normed: the next layer's boxes are refined by what the box head makes of the normed state,
            which is what the layer predicts (ours); if not, of the state before the norm, as in all public
            code.
    """

    def __init__(
        self,
        dim: int = 256,
        num_heads: int = 8,
        hidden: int = 2048,
        num_layers: int = 6,
        levels: int = 4,
        points: int = 4,
        share_heads: bool = True,
        refine_normed: bool = True,
    ):
        super().__init__()
        self.dim = dim
        self.share_heads, self.refine_normed = share_heads, refine_normed
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, hidden, levels, points) for _ in range(num_layers)
        )
        self.position = MLP(2 * dim, [dim, dim])
        self.box_head: nn.Module = (
            box_head(dim) if share_heads else nn.ModuleList(box_head(dim) for _ in range(num_layers))
        )
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        anchors: Tensor,
        memory: Tensor,
        geometry: Geometry,
        blocked: Tensor | None = None,
        unused: Tensor | None = None,
        rules: Reference = OURS,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the layers.

        Args:
            x: ``(B, Q, C)`` contents of the queries.
            anchors: ``(B, Q, 4)`` float32, logits of their boxes (x, y, w, h).
            memory: ``(B, S, C)``.
            blocked: ``(Q, Q)``, True where a query may not attend to another.
            unused: ``(B, Q)``, True for queries that are masked from attention.

        Returns:
            Of each layer: states ``(B, Q, C)``, normed for the heads, and boxes ``(B, Q, 4)``. A layer's box
            depends on its own shift and on that of the layer before, which therefore also learns from the
            result ("look forward twice"); gradients go no further back.
        """
        states, boxes = [], []
        before = anchors
        for number, layer in enumerate(self.layers):
            places = anchors.sigmoid()
            x = layer(
                x,
                self.query_positions(places, geometry, rules, x.dtype),
                geometry.boxes(places),
                memory,
                geometry.shapes,
                geometry.padding,
                blocked,
                unused,
            )
            state, head = self.norm(x), self.head(self.box_head, number)
            shift = head(state).float()
            states.append(state)
            boxes.append((_bounded(before, rules) + shift).sigmoid())
            if number + 1 == len(self.layers):
                break  # nobody starts from the last layer's boxes
            if not self.refine_normed:
                shift = head(x).float()
            before = _bounded(anchors, rules) + shift
            anchors = before.detach()
        return states, boxes

    def query_positions(
        self, places: Tensor, geometry: Geometry, rules: Reference, dtype: torch.dtype
    ) -> Tensor:
        """``(B, Q, C)`` of boxes ``(B, Q, 4)``."""
        if rules.padded_positions:
            places = places * geometry.scale[:, :1]
        return self.position(sine_embedding(places, self.dim // 2, _TEMPERATURE).to(dtype))

    def head(self, heads: nn.Module, layer: int) -> nn.Module:
        """Of shared or separate heads the one of a layer."""
        return heads[layer] if isinstance(heads, nn.ModuleList) else heads

    def blocks(self) -> list[Block]:
        """The layers, for checkpointing."""
        return [layer for layer in self.layers if isinstance(layer, Block)]


def _bounded(anchors: Tensor, rules: Reference) -> Tensor:
    """Logits that went through a fraction, where the rules have it so."""
    return anchors if rules.logit_eps is None else bounded_logit(anchors.sigmoid(), rules.logit_eps)
