"""Transformer decoder of the methods that drop patches."""

import torch
from torch import Tensor, nn

from itpn_d2.backbone.blocks import AttentionBlock
from itpn_d2.backbone.trunk import init_linears
from itpn_d2.layers import Attention, Mlp

from .positions import sincos_2d

Grid = tuple[int, int]


class TokenDecoder(nn.Module):
    """Fixed sine-cosine positions, pre-norm ViT blocks, a norm, a linear layer: ``(B, N, dim) -> (B, N,
    out)``.

    Args:
        out_dims: width of each output; there is one linear layer per entry.
        grid: the grid whose coordinates the positions have; other grids are sampled between them.
        xavier: start linear layers Xavier-uniform, as MAE does, instead of iTPN's truncated normal .02.
    """

    positions: Tensor

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        out_dims: tuple[int, ...],
        grid: Grid = (14, 14),
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        xavier: bool = False,
    ):
        super().__init__()
        self.grid = (int(grid[0]), int(grid[1]))
        self.register_buffer("positions", sincos_2d(dim, self.grid), persistent=False)
        self.blocks = nn.ModuleList(
            AttentionBlock(
                dim,
                Attention(dim, num_heads, key_bias=True),
                Mlp(dim, int(dim * mlp_ratio), norm_eps=norm_eps),
                layer_scale=None,
                norm_eps=norm_eps,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.heads = nn.ModuleList(nn.Linear(dim, out) for out in out_dims)
        init_linears(self)
        if xavier:
            for linear in self.modules():
                if isinstance(linear, nn.Linear):
                    nn.init.xavier_uniform_(linear.weight)

    def place(self, tokens: Tensor, grid: Grid) -> Tensor:
        """Tokens with their positions added.

        ``(B, N, C)`` in and out; N is the number of cells of ``grid``.
        """
        table = self.positions
        if grid != self.grid:
            table = sincos_2d(tokens.shape[-1], grid, native_grid=self.grid).to(tokens.device)
        return tokens + table

    def forward(self, tokens: Tensor, grid: Grid) -> tuple[Tensor, ...]:
        """Tokens ``(B, N, dim)`` of ``grid``, row-major, to ``(B, N, out)`` for each of ``out_dims``."""
        x = self.place(tokens, grid)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return tuple(head(x) for head in self.heads)


class MaskFill(nn.Module):
    """Puts a learned token where patches were dropped: ``(B, K, dim)`` to ``(B, N, dim)``.

    ``times`` is how many terms of a fused token the fill stands for: the reference fills each pyramid level
    with
    the same token before it sums them.
    """

    def __init__(self, dim: int, times: int = 1):
        super().__init__()
        self.times = times
        self.token = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.normal_(self.token, std=0.02)

    def forward(self, tokens: Tensor, visible: Tensor, count: int) -> Tensor:
        """``visible`` are the places ``(B, K)`` of the tokens among ``count``."""
        filled = (self.times * self.token).to(tokens.dtype).expand(len(tokens), count, -1)
        return filled.scatter(1, visible[..., None].expand(-1, -1, tokens.shape[-1]), tokens)
