"""Feed-forward layers on channel-last maps or tokens."""

from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Linear -> GELU (exact) -> optional LayerNorm -> Linear; ``(..., C) -> (..., C)``.

    The inner norm ("sub-LN") stands in stages 1-2 of Fast-iTPN and is absent in its pyramid and in iTPN v1.
    """

    def __init__(self, dim: int, hidden: int, inner_norm: bool = False, norm_eps: float = 1e-6):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.norm = nn.LayerNorm(hidden, eps=norm_eps) if inner_norm else nn.Identity()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` to ``(..., C)``."""
        return self.fc2(self.norm(F.gelu(self.fc1(x))))


class SwiGLU(nn.Module):
    """``w3(LN(SiLU(w1 x) * w2 x))``; ``(..., C) -> (..., C)`` (stage 3 of Fast-iTPN)."""

    def __init__(self, dim: int, hidden: int, norm_eps: float = 1e-6):
        super().__init__()
        self.w1 = nn.Linear(dim, hidden)
        self.w2 = nn.Linear(dim, hidden)
        self.norm = nn.LayerNorm(hidden, eps=norm_eps)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., C)`` to ``(..., C)``."""
        return self.w3(self.norm(F.silu(self.w1(x)) * self.w2(x)))
