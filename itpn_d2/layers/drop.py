"""Stochastic depth and dropout whose choices belong to the samples: see :mod:`.draws`."""

from itertools import count

import timm.layers
import torch
from torch import Tensor, nn

from .draws import PATHS, Draws, draws_of, path_table


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): in training a sample's update is zero with probability
    ``drop_prob``, else divided by the probability that it stays.

    Attributes:
        column: of the table of draws, given by :func:`draw_by_sample`; None: torch's global generator is
            used.
    """

    def __init__(self, drop_prob: float):
        super().__init__()
        self.drop_prob = drop_prob
        self.column: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Updates ``(B, ...)`` to the same shape; unchanged in evaluation and at rate 0."""
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1 - self.drop_prob
        kept = x.new_empty(x.shape[0])
        if torch.jit.is_scripting():
            kept.bernoulli_(keep)
        else:
            kept = self._kept(kept, keep)
        if keep > 0:
            kept = kept / keep
        return x * kept.view([x.shape[0]] + [1] * (x.ndim - 1))

    def _kept(self, like: Tensor, keep: float) -> Tensor:
        table = None if self.column is None else path_table(like.shape[0])
        if table is None:
            return like.bernoulli_(keep)
        return (table[:, self.column] < keep).to(like.dtype)

    def extra_repr(self) -> str:
        """The rate for the printed model."""
        return f"drop_prob={self.drop_prob:.3f}"


class Dropout(nn.Dropout):
    """torch's, with choices that belong to the samples; of ``(B, ...)``."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, ...)`` to the same shape; unchanged in evaluation."""
        draws = draws_of(len(x)) if self.training and self.p else None
        return super().forward(x) if draws is None else _dropped(x, x.shape, self.p, draws)


class Dropout2d(nn.Dropout2d):
    """torch's, which drops whole channels of ``(B, C, H, W)``, with choices that belong to the samples."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` to the same shape; unchanged in evaluation."""
        draws = draws_of(len(x)) if self.training and self.p else None
        return super().forward(x) if draws is None else _dropped(x, x.shape[:2], self.p, draws)


def _dropped(x: Tensor, shape: torch.Size, rate: float, draws: Draws) -> Tensor:
    kept = draws.uniform("dropout", *shape[1:]) >= rate
    return x * kept.to(x.dtype)[(...,) + (None,) * (x.ndim - len(shape))] / max(1 - rate, 1e-8)


_OURS: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: Dropout, nn.Dropout2d: Dropout2d}


def draw_by_sample(model: nn.Module) -> nn.Module:
    """Let the random layers of ``model``, timm's networks included, draw from the samples' numbers; in place.

    Names and weights stay. Each :class:`DropPath` gets a column of its own (of more than 512, some share
    one).
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, timm.layers.DropPath):
                setattr(parent, name, DropPath(child.drop_prob))
            elif type(child) in _OURS:
                setattr(parent, name, _OURS[type(child)](child.p, child.inplace))
    columns = count()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.column = next(columns) % PATHS
    return model
