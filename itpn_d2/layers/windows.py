"""Attention inside windows, with a few tokens that every window shares (token gathering; the layout is ours).

Tokens stand in window-major order, so that a window is one run of neighbours in the sequence. Windows at the
edge of a grid are smaller than the others: token-wise layers never see the difference, attention pads its
queries, keys and values. All sizes follow from the grid's shape, never from values, so that everything
compiles.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from .attention_products import attend

Count = TypeVar("Count", int, Tensor)
RATIO_STEPS = 10_000  # ratios are kept as integers over this, so that counts round the same everywhere


def keep_count(count: Count, ratio: float) -> Count:
    """``ceil(ratio * count)`` of an integer or of a tensor of them, in exact integer arithmetic."""
    return -(-count * round(ratio * RATIO_STEPS) // RATIO_STEPS)


@dataclass(frozen=True)
class Windows:
    """W windows over a sequence of T tokens, one run after another.

    Attributes:
        kinds: (number of windows, tokens of each), for every size that occurs.
        lengths: ``(W,)`` tokens of each window, in order.
        slots: ``(W, L)`` which token fills a slot, L being the size of the largest window; None where all
            windows have that size. Slots that are too many repeat some other token.
        filled: ``(W, L)`` False on slots that are too many; None as above.
        places: ``(T,)`` the slot of each token among all ``W * L``; None as above.
    """

    kinds: tuple[tuple[int, int], ...]
    lengths: Tensor
    slots: Tensor | None = None
    filled: Tensor | None = None
    places: Tensor | None = None

    @staticmethod
    def of(kinds: tuple[tuple[int, int], ...], lengths: Tensor) -> "Windows":
        """Windows with the index tables that they need.

        ``lengths`` is ``(W,)`` int64, the tokens of each window.
        """
        longest = max(length for _, length in kinds)
        if all(length == longest for _, length in kinds):
            return Windows(kinds, lengths)
        total = sum(count * length for count, length in kinds)
        step = torch.arange(longest, device=lengths.device)
        filled = step < lengths[:, None]
        slots = (lengths.cumsum(0) - lengths)[:, None] + step
        every = torch.arange(len(lengths) * longest, device=lengths.device)
        target = torch.where(filled, slots, total).flatten()
        places = every.new_zeros(total + 1).scatter(0, target, every)[:-1]
        return Windows(kinds, lengths, slots.clamp(max=total - 1), filled, places)

    @staticmethod
    def single(total: int, device: torch.device) -> "Windows":
        """One window that holds everything."""
        return Windows.of(((1, total),), torch.full((1,), total, device=device))

    @property
    def longest(self) -> int:
        """L, the tokens of the largest window."""
        return max(length for _, length in self.kinds)

    @property
    def total(self) -> int:
        """T, the tokens of all windows together."""
        return sum(count * length for count, length in self.kinds)

    @property
    def count(self) -> int:
        """W, the number of windows."""
        return sum(count for count, _ in self.kinds)

    def keep(self, ratio: float) -> "Windows":
        """The same windows with ``ceil(ratio * length)`` tokens each."""
        kinds = tuple((count, keep_count(length, ratio)) for count, length in self.kinds)
        return Windows.of(kinds, keep_count(self.lengths, ratio))

    def drop(self, ratio: float) -> "Windows":
        """The same windows with the tokens that :meth:`keep` leaves out; some may be empty."""
        kinds = tuple((count, length - keep_count(length, ratio)) for count, length in self.kinds)
        return Windows.of(kinds, self.lengths - keep_count(self.lengths, ratio))

    def spread(self, x: Tensor) -> Tensor:
        """``(B, T, ...) -> (B, W, L, ...)``; what stands in slots that are too many means nothing."""
        if self.slots is None:
            return x.unflatten(1, (self.count, self.longest))
        return x[:, self.slots]

    def join(self, x: Tensor) -> Tensor:
        """Inverse of :meth:`spread`.

        ``(B, W, L, ...) -> (B, T, ...)``.
        """
        x = x.flatten(1, 2)
        return x if self.places is None else x[:, self.places]


def cut_windows(grid: tuple[int, int], window: int, device: torch.device) -> tuple[Windows, Tensor | None]:
    """Windows of ``window x window`` tokens from the upper left corner of a grid; those at the right and
    bottom edge may be smaller. An image in a padded batch has the same windows as alone.

    Returns:
        The windows, and the order ``(N,)`` that puts row-major tokens into window-major order (None where
        they stand so already).
    """
    sides = [[kind for kind in ((n // window, window), (1, n % window)) if kind[0] * kind[1]] for n in grid]
    kinds = tuple((a * b, m * n) for a, m in sides[0] for b, n in sides[1])
    rows, columns = (
        (n - window * torch.arange(sum(k[0] for k in side), device=device)).clamp(max=window)
        for n, side in zip(grid, sides, strict=True)
    )
    windows = Windows.of(kinds, (rows[:, None] * columns).flatten())
    if len(columns) == 1:
        return windows, None
    row, column = (torch.arange(n, device=device) // window for n in grid)
    return windows, (row[:, None] * len(columns) + column).flatten().argsort(stable=True)


@dataclass(frozen=True)
class WindowLayout:
    """What :func:`window_attention` needs to know of ``(B, T + G)`` tokens, the last G of which are shared.

    Attributes:
        private: the tokens of a window do not see the shared ones, which see everything all the same.
        window_mask: ``(B * W, 1, 1, L [+ G])`` keys that a window's tokens may see; None for all.
        shared_mask: ``(B, 1, 1, T + G)`` keys that the shared tokens may see; None for all.
    """

    windows: Windows
    shared: int
    private: bool = False
    window_mask: Tensor | None = None
    shared_mask: Tensor | None = None

    @staticmethod
    def of(
        windows: Windows, shared: int, batch: int, content: Tensor | None = None, private: bool = False
    ) -> "WindowLayout":
        """The layout, with masks where there is something to hide.

        Args:
            content: ``(B, T)``, True on tokens that may be seen; None where all may.
        """
        filled = None if windows.filled is None else windows.filled.expand(batch, -1, -1)
        window_mask, shared_mask = filled, None
        if content is not None:
            window_mask = windows.spread(content)
            window_mask = window_mask if filled is None else window_mask & filled
            shared_mask = F.pad(content, (0, shared), value=True)[:, None, None]
        if window_mask is not None:
            if shared and not private:
                window_mask = F.pad(window_mask, (0, shared), value=True)
            else:  # a softmax over no key at all is not a number
                window_mask = window_mask | ~window_mask.any(-1, keepdim=True)
            window_mask = window_mask.flatten(0, 1)[:, None, None]
        return WindowLayout(windows, shared, private, window_mask, shared_mask)


def window_attention(qkv: Tensor, layout: WindowLayout) -> Tensor:
    """Queries, keys and values ``(B, T + G, 3, heads, head_dim)`` to attended values ``(B, T + G, heads,
    head_dim)``.

    A window's tokens see their window and the G shared tokens; the shared tokens see everything. The cost is
    linear in the number of windows.
    """
    batch, windows = len(qkv), layout.windows
    total = windows.total
    parts = windows.spread(qkv[:, :total])  # all three moved at once
    if layout.shared and not layout.private:
        parts = torch.cat((parts, qkv[:, None, total:].expand(-1, parts.shape[1], -1, -1, -1, -1)), 2)
    q, k, v = parts.flatten(0, 1).permute(2, 0, 3, 1, 4).unbind(0)
    out = attend(q[:, :, : windows.longest], k, v, layout.window_mask)
    out = windows.join(out.transpose(1, 2).unflatten(0, (batch, -1)))
    if not layout.shared:
        return out
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    shared = attend(q[:, :, total:], k, v, layout.shared_mask)
    return torch.cat((out, shared.transpose(1, 2)), 1)
