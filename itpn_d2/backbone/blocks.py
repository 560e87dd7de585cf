"""The residual blocks of the trunk and of the pyramid."""

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from ..layers import Attention, Mlp, SwiGLU


def drop_path(rate: float) -> nn.Module:
    """Stochastic depth per sample; Identity at rate 0."""
    return DropPath(rate) if rate > 0 else nn.Identity()


class MlpBlock(nn.Module):
    """``x + MLP(LN(x))`` on ``(..., C)``: stages 1-2 (with inner norm) and the pyramid (without)."""

    def __init__(self, dim: int, hidden: int, inner_norm: bool, drop: float = 0.0, norm_eps: float = 1e-6):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, hidden, inner_norm, norm_eps)
        self.drop_path = drop_path(drop)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.mlp(self.norm(x)))


class AttentionBlock(nn.Module):
    """``x += g1 * Attn(LN x); x += g2 * SwiGLU(LN x)`` on tokens ``(B, N, C)`` (stage 3 of Fast-iTPN).

    ``layer_scale=None`` leaves out the vectors g1 and g2.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden: int,
        layer_scale: float | None = 0.1,
        drop: float = 0.0,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = SwiGLU(dim, hidden, norm_eps)
        self.drop_path = drop_path(drop)
        self.gamma_1 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma_2 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        update = self.attn(self.norm1(x), key_mask)
        x = x + self.drop_path(update if self.gamma_1 is None else update * self.gamma_1)
        update = self.mlp(self.norm2(x))
        return x + self.drop_path(update if self.gamma_2 is None else update * self.gamma_2)
