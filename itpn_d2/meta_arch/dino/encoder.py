"""The encoder: every cell of every level looks around on all levels (Deformable DETR)."""

import torch
from torch import Tensor, nn
from torchvision.ops import MLP

from ...backbone.checkpointing import Block
from ...layers.deformable import DeformableAttention, Shapes
from .geometry import Geometry, sine_embedding


class EncoderLayer(Block):
    """Deformable self-attention and a ReLU network, each followed by a norm."""

    def __init__(self, dim: int, num_heads: int, hidden: int, levels: int, points: int):
        super().__init__()
        self.attention = DeformableAttention(dim, num_heads, levels, points)
        self.norm1 = nn.LayerNorm(dim)
        self.feed_forward = MLP(dim, [hidden, dim])
        self.norm2 = nn.LayerNorm(dim)

    def compute(
        self, x: Tensor, position: Tensor, around: Tensor, shapes: Shapes, padding: Tensor | None
    ) -> Tensor:
        """Cells ``(B, S, C)`` of levels ``shapes`` to the same shape; ``position`` ``(B, S, C)`` is added
        where they attend, ``around`` ``(B, S, L, 4)`` are the boxes that they look into."""
        x = self.norm1(x + self.attention(x + position, around, x, shapes, padding))
        return self.norm2(x + self.feed_forward(x))


class Encoder(nn.Module):
    """Levels ``(B, C, h, w)`` to memory ``(B, S, C)``, the cells of all levels one after another.

    Args:
        dim: C; a multiple of 4 and of ``num_heads``.
        hidden: width of the ReLU networks.
        levels, points: of the deformable attention.
        temperature: longest wave of the cells' positions, in images. 20 is the official DINO's; detrex and
            Mask DINO have 10000.
        centred: a cell's position is its middle (ours, and detrex'), not its end (official DINO, Mask DINO).
        interleaved: y before x, and a sine beside its cosine, as all of them have it. It is the same up to
            the order of channels, which matters for their weights only.
    """

    def __init__(
        self,
        dim: int = 256,
        num_heads: int = 8,
        hidden: int = 2048,
        num_layers: int = 6,
        levels: int = 4,
        points: int = 4,
        temperature: float = 20.0,
        centred: bool = True,
        interleaved: bool = False,
    ):
        super().__init__()
        self.points = points
        self.temperature, self.centred, self.interleaved = temperature, centred, interleaved
        self.level = nn.Parameter(torch.empty(levels, dim))
        nn.init.normal_(self.level)
        self.layers = nn.ModuleList(
            EncoderLayer(dim, num_heads, hidden, levels, points) for _ in range(num_layers)
        )

    def no_weight_decay(self) -> set[str]:
        """The embedding of the levels: it is not decayed."""
        return {"level"}

    def forward(self, levels: list[Tensor], geometry: Geometry) -> Tensor:
        """Levels ``(B, C, h, w)``, the finest first, to memory ``(B, S, C)``."""
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
        position = self.positions(geometry) + self.level[geometry.level_numbers()]
        around = geometry.around_cells(self.points)
        for layer in self.layers:
            x = layer(x, position, around, geometry.shapes, geometry.padding)
        return x

    def positions(self, geometry: Geometry) -> Tensor:
        """``(B, S, C)`` float32: where the cells are, without their levels."""
        places = geometry.centres if self.centred else geometry.ends()
        if self.interleaved:
            places = places.flip(-1)
        return sine_embedding(places, self.level.shape[1] // 2, self.temperature, self.interleaved)

    def blocks(self) -> list[Block]:
        """The layers, for checkpointing."""
        return [layer for layer in self.layers if isinstance(layer, Block)]
