"""The residual blocks of the trunks and of the pyramid."""

import torch
from torch import Tensor, nn

from ..layers import Attention, DropPath, Mlp, SwiGLU, WindowLayout, in_stripes
from .checkpointing import Block

TOKENS = 4096  # that an MLP of stage 3 takes at a time, in inference on a CPU


def drop_path(rate: float) -> nn.Module:
    """Stochastic depth per sample; Identity at rate 0."""
    return DropPath(rate) if rate > 0 else nn.Identity()


def layer_scale_vector(dim: int, value: float | None) -> nn.Parameter | None:
    """The factors ``(dim,)`` of a residual branch, all ``value`` at first; None for no layer scale."""
    return None if value is None else nn.Parameter(torch.full((dim,), value))


class MlpBlock(Block):
    """``x + gamma_2 * MLP(LN(x))`` on ``(..., C)``: stages 1-2 and the pyramid.

    ``inner_norm`` is on in stages 1-2 of Fast-iTPN; ``layer_scale=None`` leaves out the vector gamma_2, which
    only the CLIP form of iTPN v1 has here.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        inner_norm: bool,
        drop: float = 0.0,
        norm_eps: float = 1e-6,
        layer_scale: float | None = None,
    ):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, hidden, inner_norm, norm_eps)
        self.drop_path = drop_path(drop)
        self.gamma_2 = layer_scale_vector(dim, layer_scale)

    def compute(self, x: Tensor) -> Tensor:
        """``(..., C)`` to the same shape."""
        update = self.mlp(self.norm(x))
        return x + self.drop_path(update if self.gamma_2 is None else update * self.gamma_2)


class AttentionBlock(Block):
    """``x += gamma_1 * Attn(LN x); x += gamma_2 * MLP(LN x)`` on tokens ``(B, N, C)``: stage 3.

    ``layer_scale=None`` leaves out the vectors gamma_1 and gamma_2.
    """

    def __init__(
        self,
        dim: int,
        attention: Attention,
        mlp: Mlp | SwiGLU,
        layer_scale: float | None = 0.1,
        drop: float = 0.0,
        norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = mlp
        self.drop_path = drop_path(drop)
        self.drop_path_mlp = drop_path(drop)
        self.gamma_1 = layer_scale_vector(dim, layer_scale)
        self.gamma_2 = layer_scale_vector(dim, layer_scale)

    def compute(
        self,
        x: Tensor,
        key_mask: Tensor | None = None,
        grid: tuple[int, int] | None = None,
        layout: WindowLayout | None = None,
        grids: Tensor | None = None,
    ) -> Tensor:
        """``key_mask``, ``grid``, ``layout`` and ``grids`` as in
        :meth:`itpn_d2.layers.Attention.forward`.

        ``x`` and result: ``(B, N, C)``.
        """
        update = self.attn(self.norm1(x), key_mask, grid, layout, grids)
        x = x + self.drop_path(update if self.gamma_1 is None else update * self.gamma_1)
        (update,) = in_stripes(self._feed, x, rows=x.shape[1], cells=TOKENS)
        return x + self.drop_path_mlp(update if self.gamma_2 is None else update * self.gamma_2)

    def _feed(self, x: Tensor) -> tuple[Tensor]:
        return (self.mlp(self.norm2(x)),)
