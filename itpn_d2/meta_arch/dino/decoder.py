"""The decoder: queries with boxes that every layer refines (DAB-DETR, Deformable DETR, DINO)."""

from torch import Tensor, nn
from torchvision.ops import MLP

from ...backbone.checkpointing import Block
from ...layers.deformable import DeformableAttention, Shapes
from .geometry import Geometry, sine_embedding
from .selection import box_head

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
        placed = x + position
        seen, _ = self.self_attention(
            placed, placed, x, key_padding_mask=unused, attn_mask=blocked, need_weights=False
        )
        x = self.norm1(x + seen)
        x = self.norm2(x + self.attention(x + position, reference, memory, shapes, padding))
        return self.norm3(x + self.feed_forward(x))


class Decoder(nn.Module):
    """Queries and their boxes through all layers; arguments as of the encoder.

    All layers share one box head and one norm before the heads.
    """

    def __init__(
        self,
        dim: int = 256,
        num_heads: int = 8,
        hidden: int = 2048,
        num_layers: int = 6,
        levels: int = 4,
        points: int = 4,
    ):
        super().__init__()
        self.dim = dim
        self.layers = nn.ModuleList(
            DecoderLayer(dim, num_heads, hidden, levels, points) for _ in range(num_layers)
        )
        self.position = MLP(2 * dim, [dim, dim])
        self.box_head = box_head(dim)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x: Tensor,
        anchors: Tensor,
        memory: Tensor,
        geometry: Geometry,
        blocked: Tensor | None = None,
        unused: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Run the layers.

        Args:
            x: ``(B, Q, C)`` contents of the queries.
            anchors: ``(B, Q, 4)`` float32, logits of their boxes (x, y, w, h).
            memory: ``(B, S, C)``.
            blocked: ``(Q, Q)``, True where a query may not see another.
            unused: ``(B, Q)``, True for queries that nobody may see.

        Returns:
            Of each layer: states ``(B, Q, C)``, normed for the heads, and boxes ``(B, Q, 4)``. A layer's box
            depends on its own shift and on that of the layer before, which so learns from what comes of it
            ("look forward twice"); gradients go no further back.
        """
        states, boxes = [], []
        before = anchors
        for layer in self.layers:
            places = anchors.sigmoid()
            position = self.position(sine_embedding(places, self.dim // 2, _TEMPERATURE).to(x.dtype))
            x = layer(
                x,
                position,
                geometry.boxes(places),
                memory,
                geometry.shapes,
                geometry.padding,
                blocked,
                unused,
            )
            state = self.norm(x)
            shift = self.box_head(state).float()
            states.append(state)
            boxes.append((before + shift).sigmoid())
            before = anchors + shift
            anchors = before.detach()
        return states, boxes

    def blocks(self) -> list[Block]:
        """The layers, for checkpointing."""
        return [layer for layer in self.layers if isinstance(layer, Block)]
