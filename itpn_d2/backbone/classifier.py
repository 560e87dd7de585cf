"""Trunk with a linear classification head."""

from typing import Literal

from torch import Tensor, nn

from ..layers.units import map_to_tokens
from .padding import pad_to_multiple
from .trunk import TOKEN_STRIDE, Trunk

Pooling = Literal["mean_then_norm", "norm_then_mean"]


class TrunkClassifier(nn.Module):
    """``(B, C, H, W) -> (B, num_classes)`` logits.

    ``mean_then_norm`` is what the published fine-tuning uses (``fc_norm`` on the pooled token);
    ``norm_then_mean`` puts the norm on the tokens (``trunk.norm``).
    """

    def __init__(
        self, trunk: Trunk, num_classes: int, pooling: Pooling = "mean_then_norm", norm_eps: float = 1e-6
    ):
        super().__init__()
        if pooling not in ("mean_then_norm", "norm_then_mean"):
            raise ValueError(f"pooling {pooling!r}: choose mean_then_norm or norm_then_mean")
        dim = trunk.channels[-1]
        self.trunk = trunk
        self.fc_norm = nn.LayerNorm(dim, eps=norm_eps) if pooling == "mean_then_norm" else nn.Identity()
        self.head = nn.Linear(dim, num_classes)
        # small logits at the start: the reference multiplies the head by 0.01
        nn.init.trunc_normal_(self.head.weight, std=0.02 * 0.01)
        nn.init.zeros_(self.head.bias)

    def pool(self, image: Tensor) -> Tensor:
        """``(B, C, H, W) -> (B, C3)``, the feature before the linear head."""
        tokens = map_to_tokens(self.trunk(pad_to_multiple(image, TOKEN_STRIDE))[-1])
        return self.fc_norm(tokens.mean(1))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.pool(image))
