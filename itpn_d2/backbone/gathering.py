"""Token gathering: window attention in stage 3, with a few tokens that carry global information (Fast-iTPN).

The idea is in the paper's abstract: few gathering tokens reduce the cost of global attention. Window size,
number of tokens, their initial values and their attention pattern are ours; no code has been released.
"""

import math

import torch
from torch import Tensor, nn

from ..layers.windows import WindowLayout, Windows


class TokenGathering(nn.Module):
    """Gathering tokens and windows of stage 3.

    A token sees its window and the gathering tokens; a gathering token sees all tokens and all gathering
    tokens. They pass through the blocks' own layers. Each starts as the mean of one part of the image, so
    that no two are the same, plus a learned offset that starts at zero: weights trained without gathering
    work.

    Args:
        dim, depth: width and number of blocks of stage 3.
        window: rows and columns of a window, in tokens (14 is the grid of a 224-pixel image). Windows at the
            right and bottom edge may be smaller.
        tokens: number of gathering tokens; with 0, windows are independent of each other.
        global_blocks: blocks of stage 3, counted from 0, whose tokens see all tokens, as without gathering.

    Raises:
        ValueError: ``window`` below 1, ``tokens`` below 0, a global block that stage 3 does not have; or all
            blocks are global although there are gathering tokens.
    """

    def __init__(
        self, dim: int, depth: int, window: int = 14, tokens: int = 4, global_blocks: tuple[int, ...] = ()
    ):
        super().__init__()
        if window < 1:
            raise ValueError(f"gathering window {window}: choose 1 token or more, e.g. 14")
        if tokens < 0:
            raise ValueError(f"gathering tokens {tokens}: choose 0 or more, e.g. 4")
        wrong = [b for b in global_blocks if not 0 <= b < depth]
        if wrong:
            raise ValueError(f"gathering global_blocks {wrong}: stage 3 has blocks 0 to {depth - 1}")
        if tokens and len(set(global_blocks)) == depth:
            # nothing would see the tokens, and their offset would have no gradient
            raise ValueError(
                "gathering global_blocks: if all blocks are global, attention is dense; leave some out"
            )
        self.dim, self.depth, self.window, self.tokens = dim, depth, window, tokens
        self.global_blocks = frozenset(global_blocks)
        self.offset = nn.Parameter(torch.zeros(tokens, dim)) if tokens else None
        # the parts of an image that tokens start from: as many rows and columns, or more columns
        self.rows = next(r for r in range(math.isqrt(max(tokens, 1)), 0, -1) if max(tokens, 1) % r == 0)

    def no_weight_decay(self) -> set[str]:
        """The tokens' offset, where there is one: it is not decayed."""
        return {"offset"} if self.tokens else set()

    def extra_repr(self) -> str:
        """Settings for the printed model."""
        return f"window={self.window}, tokens={self.tokens}, global_blocks={sorted(self.global_blocks)}"

    def start(self, tokens: Tensor, grid: tuple[int, int], grids: Tensor | None = None) -> Tensor:
        """Gathering tokens ``(B, G, C)`` of row-major tokens ``(B, N, C)``; ``grids`` ``(B, 2)`` gives the
        rows and columns of each image in a padded batch."""
        if self.offset is None:
            return tokens[:, :0]
        sizes: tuple[int | Tensor, int | Tensor] = grid
        if grids is not None:
            sizes = grids[:, :1], grids[:, 1:]
        rows = _parts(self.rows, sizes[0], grid[0], tokens.device)
        columns = _parts(self.tokens // self.rows, sizes[1], grid[1], tokens.device)
        members = rows[:, :, None, :, None] & columns[:, None, :, None, :]
        weights = members.flatten(3).flatten(1, 2).to(tokens.dtype)
        weights = (weights / weights.sum(-1, keepdim=True)).expand(len(tokens), -1, -1)
        # normalised before the product: a sum over all tokens would overflow float16
        return (weights @ tokens).to(tokens.dtype) + self.offset.to(tokens.dtype)

    def layout(self, block: int, windows: Windows, batch: int, content: Tensor | None) -> WindowLayout:
        """Which tokens attend to which in a block; ``content`` ``(B, T)`` as in :meth:`WindowLayout.of`."""
        if block in self.global_blocks:
            windows = Windows.single(windows.total, windows.lengths.device)
            return WindowLayout.of(windows, self.tokens, batch, content, private=True)
        return WindowLayout.of(windows, self.tokens, batch, content)


def _parts(parts: int, size: int | Tensor, padded: int, device: torch.device) -> Tensor:
    """``(1 or B, parts, padded)`` bool: which of ``padded`` places each of so many equal parts of the first
    ``size`` (an integer, or ``(B, 1)``) covers; parts overlap where ``size`` is not divisible, so that none
    is empty."""
    part = torch.arange(parts, device=device)[None]
    start, end = part * size // parts, -(-(part + 1) * size // parts)
    place = torch.arange(padded, device=device)
    return (place >= start[..., None]) & (place < end[..., None])
