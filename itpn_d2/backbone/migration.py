"""Token migration: redundant tokens leave stage 3 early and rejoin the others before the pyramid (Fast-iTPN).

The idea is in the paper's abstract: drop redundant tokens in the backbone and replenish them in the feature
pyramid without attention. Metric, depths and ratios are ours; no code has been released. It can work because
nothing before stage 3 and nothing in the pyramid mixes two 16x16 patches: a token that has exited only misses
the remaining blocks of stage 3.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.windows import Windows, keep_count

# tokens (B, T, C) in float32 and content (B, T) or None to scores (B, T); the highest stay
Metric = Callable[[Tensor, Tensor | None], Tensor]


def mean_dissimilarity(tokens: Tensor, content: Tensor | None) -> Tensor:
    """One minus the cosine between a token and the mean of the normalised tokens: a token that looks like the
    average of its image is redundant (the metric of PCAE, ICLR'23).

    Args:
        tokens: ``(B, N, C)``.
        content: ``(B, N)``, 1 for tokens of an image and 0 for padding; None if there is no padding.

    Returns:
        ``(B, N)``, 0 to 2.
    """
    unit = F.normalize(tokens, dim=-1)
    seen = unit if content is None else unit * content[..., None]
    return 1 - F.cosine_similarity(unit, seen.sum(1, keepdim=True), dim=-1)


def token_norm(tokens: Tensor, content: Tensor | None) -> Tensor:
    """The length of a token, a control for the other metric.

    ``(B, N, C)`` to ``(B, N)``; ``content`` is not looked at.
    """
    return tokens.norm(dim=-1)


METRICS: dict[str, Metric] = {"mean_dissimilarity": mean_dissimilarity, "norm": token_norm}


class Split(NamedTuple):
    """Which tokens stay and which exit.

    Attributes:
        staying, leaving: ``(B, K)`` and ``(B, T - K)`` indices of tokens, window by window.
        windows: of those that stay.
        content: ``(B, K)``, False where a slot is filled with a token that does not count; None if there is
            no such slot.
    """

    staying: Tensor
    leaving: Tensor
    windows: Windows
    content: Tensor | None


class TokenMigration(nn.Module):
    """When tokens exit, how many, and which.

    Counts follow from the grid's shape. In a padded batch every image keeps the same share of its own tokens
    as it would alone; the remaining slots are filled with tokens that are masked from attention and do not
    change.

    Args:
        dim, depth: width and number of blocks of stage 3.
        keep: share of the tokens present that stay at each drop, one for all or one each; counts are rounded
            up. 1 is no drop.
        at: where tokens leave, as shares of the depth of stage 3: before block ``int(share * depth)``.
        metric: name in :data:`METRICS`.
        affine: scale and shift of leaving tokens, learned for each drop, starting at identity.

    Raises:
        ValueError: ``keep`` outside (0, 1] or not one for each of ``at``; ``at`` outside [0, 1) or not
            ascending; an unknown ``metric``.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        keep: float | Sequence[float] = 0.7,
        at: Sequence[float] = (0.25, 0.5, 0.75),
        metric: str = "mean_dissimilarity",
        affine: bool = False,
    ):
        super().__init__()
        at = tuple(at)
        ratios = (keep,) * len(at) if isinstance(keep, (int, float)) else tuple(keep)
        if len(ratios) != len(at) or not all(0 < r <= 1 for r in ratios):
            raise ValueError(f"migration keep {keep}: give a ratio in (0, 1], or {len(at)} of them (as `at`)")
        if not all(0 <= share < 1 for share in at) or list(at) != sorted(at):
            raise ValueError(
                f"migration at {at}: give increasing fractions of the depth of stage 3 in "
                "[0, 1), e.g. 0.25 0.5"
            )
        if metric not in METRICS:
            raise ValueError(f"migration metric {metric!r}: choose from {', '.join(METRICS)}")
        self.dim, self.depth, self.metric, self.ratios = dim, depth, metric, ratios
        self.blocks = tuple(int(share * depth) for share in at)
        self.scale = nn.Parameter(torch.ones(len(at), dim)) if affine else None
        self.shift = nn.Parameter(torch.zeros(len(at), dim)) if affine else None

    def no_weight_decay(self) -> set[str]:
        """Scale and shift, where they are learned: they are not decayed."""
        return set() if self.scale is None else {"scale", "shift"}

    def extra_repr(self) -> str:
        """Settings for the printed model."""
        return f"keep={self.ratios}, before blocks {self.blocks}, metric={self.metric}"

    def drops_before(self, block: int) -> list[int]:
        """Numbers of the drops that come before a block."""
        return [number for number, b in enumerate(self.blocks) if b == block]

    def leave(self, tokens: Tensor, number: int) -> Tensor:
        """The tokens ``(B, K, C)`` that exit at drop ``number``, after their scale and shift; same shape."""
        if self.scale is None or self.shift is None:
            return tokens
        return tokens * self.scale[number].to(tokens.dtype) + self.shift[number].to(tokens.dtype)

    def split(self, tokens: Tensor, content: Tensor | None, windows: Windows, number: int) -> Split | None:
        """Choose who stays at drop ``number``, in each window the same share; None if all do.

        Args:
            tokens: ``(B, T, C)`` in window-major order. No gradient flows through the choice.
            content: ``(B, T)``, False on tokens that do not count; they exit first and have no influence.
        """
        ratio, batch = self.ratios[number], len(tokens)
        kept = windows.keep(ratio)
        if kept.total == windows.total:
            return None
        score = METRICS[self.metric](tokens.detach().float(), content)
        if content is not None:
            score = score.masked_fill(~content, -torch.inf)
        score = windows.spread(score)
        token = windows.spread(torch.arange(windows.total, device=tokens.device)[None])
        if windows.filled is not None:
            score = score.masked_fill(~windows.filled, -torch.inf)
        # stable: a slot that is too many stands behind the tokens of its window, whatever their score
        ranks = score.argsort(dim=-1, descending=True, stable=True)
        ranked = token.expand(batch, -1, -1).gather(-1, ranks)
        gone = windows.drop(ratio)
        behind = kept.lengths[:, None] + torch.arange(gone.longest, device=tokens.device)
        behind = behind.clamp(max=windows.longest - 1).expand(batch, -1, -1)
        new_content = None
        if content is not None:
            real = windows.spread(content)
            if windows.filled is not None:
                real = real & windows.filled
            own = keep_count(real.sum(-1, keepdim=True), ratio)
            new_content = kept.join(torch.arange(kept.longest, device=tokens.device) < own)
        return Split(
            kept.join(ranked[:, :, : kept.longest]),
            gone.join(ranked.gather(-1, behind)),
            kept,
            new_content,
        )
