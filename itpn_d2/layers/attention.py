"""Multi-head self-attention, global or in windows; N x N matrices are made for a position bias only."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention_products import attend
from .relative_position import DecomposedBias, TableBias
from .windows import WindowLayout, window_attention

RelativePosition = Literal["none", "table", "decomposed"]


class Attention(nn.Module):
    """Self-attention ``(B, N, C) -> (B, N, C)`` with one fused qkv product.

    Args:
        key_bias: keys have a bias too (iTPN v1). Without it queries and values have one and keys have none,
            as in Fast-iTPN; a key bias cancels in the softmax.
        rel_pos: position bias: ``table`` (one value per offset and head) or ``decomposed`` (query times a
            vector per row and per column offset); both are v1 forms.
        rel_pos_grid: the grid of tokens that the bias is stored for; other grids are resampled.

    Raises:
        ValueError: ``dim`` is not divisible by ``num_heads``, or ``rel_pos`` is unknown.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        key_bias: bool = False,
        rel_pos: RelativePosition = "none",
        rel_pos_grid: tuple[int, int] = (14, 14),
    ):
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"dim {dim} is not divisible by num_heads {num_heads}")
        if rel_pos not in ("none", "table", "decomposed"):
            raise ValueError(f"rel_pos {rel_pos!r}: choose none, table or decomposed")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=key_bias)
        if not key_bias:
            self.q_bias = nn.Parameter(torch.zeros(dim))
            self.v_bias = nn.Parameter(torch.zeros(dim))
        self.rel_pos: TableBias | DecomposedBias | None = None
        if rel_pos == "table":
            self.rel_pos = TableBias(rel_pos_grid, num_heads)
        elif rel_pos == "decomposed":
            self.rel_pos = DecomposedBias(rel_pos_grid, dim // num_heads)
        self.proj = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,
        key_mask: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        layout: WindowLayout | None = None,
        grids: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            key_mask: ``(B, 1, 1, N)``, True where a token may be attended to; broadcast, so that memory stays
                linear in N.
            grid: rows and columns of the tokens, which a position bias needs.
            layout: windows of tokens, instead of global attention; it has its own masks.
            grids: ``(B, 2)`` rows and columns of each image in a padded batch, for a position bias.

        Raises:
            ValueError: there is a position bias, and ``grid`` is missing or has not N tokens.
        """
        b, n, c = x.shape
        bias = self.qkv.bias
        if bias is None:
            bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv = F.linear(x, self.qkv.weight, bias).reshape(b, n, 3, self.num_heads, c // self.num_heads)
        if layout is not None:
            return self.proj(window_attention(qkv, layout).reshape(b, n, c))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mask = key_mask
        if self.rel_pos is not None:
            if grid is None or grid[0] * grid[1] != n:
                raise ValueError(f"relative positions need the grid of all {n} tokens, not {grid}")
            mask = self.rel_pos(q, grid, grids)
            if key_mask is not None:
                mask = mask.masked_fill(~key_mask, float("-inf"))
        out = attend(q, k, v, mask)
        return self.proj(out.transpose(1, 2).reshape(b, n, c))
