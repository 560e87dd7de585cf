"""Stage 3 with token migration, token gathering, or both."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..layers.units import gather_units
from ..layers.windows import WindowLayout, Windows, cut_windows
from .gathering import TokenGathering
from .migration import TokenMigration


class TokenState:
    """The tokens that are still in stage 3, and those that have exited.

    Attributes:
        x: ``(B, T + G, C)``: tokens in window-major order, then gathering tokens.
        cells: ``(B, T)`` the place of each token in the grid; ``ordered``: it was another one from the start.
        content: ``(B, T)``, False on tokens that are masked from attention; None if there are none.
        frozen: ``(B, T, C)`` the tokens as they were at the last drop that kept them only as fillers, else
            None.
        left: tokens that have exited, with their cells.
        drops: the block before which each drop came, with ``cells`` and ``content`` after it.
    """

    def __init__(
        self, x: Tensor, cells: Tensor, content: Tensor | None, windows: Windows, ordered: bool = False
    ):
        self.ordered = ordered
        self.x, self.cells, self.content, self.windows = x, cells, content, windows
        self.frozen: Tensor | None = None
        self.left: list[tuple[Tensor, Tensor]] = []
        self.drops: list[tuple[int, Tensor, Tensor | None]] = []

    def tokens(self) -> Tensor:
        """``(B, T, C)``; fillers are as they were when they should have exited."""
        tokens = self.x[:, : self.windows.total]
        if self.frozen is None or self.content is None:
            return tokens
        return torch.where(self.content[..., None], tokens, self.frozen)

    def gathered(self) -> Tensor:
        """All tokens ``(B, N, C)``, each in its own cell of the row-major grid."""
        if not self.left and not self.ordered:
            return self.tokens()
        parts = [(self.tokens(), self.cells), *self.left]
        tokens, cells = (torch.cat([part[i] for part in parts], 1) for i in (0, 1))
        return gather_units(tokens, cells.argsort(1).expand(len(tokens), -1))

    def exits(self, depth: int) -> Tensor:
        """``(B, N)`` how many of ``depth`` blocks each cell's token went through; padding counts as exiting
        at the first drop."""
        batch, total = len(self.x), self.windows.total + sum(cells.shape[1] for _, cells in self.left)
        passed = self.cells.new_full((batch, total), depth)
        for block, cells, content in reversed(self.drops):
            there = torch.zeros_like(passed, dtype=torch.bool)
            there.scatter_(1, cells, torch.ones_like(cells, dtype=torch.bool) if content is None else content)
            passed = torch.where(there, passed, block)
        return passed


def run_stage3(
    blocks: Iterable[nn.Module],
    migration: TokenMigration | None,
    gathering: TokenGathering | None,
    tokens: Tensor,
    grid: tuple[int, int],
    content: Tensor | None,
    grids: Tensor | None,
) -> TokenState:
    """Stage 3 with migration, gathering, or both.

    Args:
        blocks: of stage 3, called with tokens, mask, grid (none) and the layout of windows.
        tokens: ``(B, N, C3)``, row-major over ``grid``, with positions.
        content: ``(B, N)``, False on padding; None where nothing is padded.
        grids: ``(B, 2)`` rows and columns of tokens of each image, where the batch is padded.
    """
    batch, device = len(tokens), tokens.device
    windows, order = Windows.single(tokens.shape[1], device), None
    cells = torch.arange(tokens.shape[1], device=device)[None]
    if gathering is not None:
        shared = gathering.start(tokens, grid, grids)
        windows, order = cut_windows(grid, gathering.window, device)
        if order is not None:
            tokens, cells = tokens[:, order], order[None]
            content = None if content is None else content[:, order]
        tokens = torch.cat((tokens, shared), 1)
    state = TokenState(tokens, cells, content, windows, ordered=order is not None)
    layouts: dict[bool, WindowLayout] = {}
    for number, block in enumerate(blocks):
        for drop in migration.drops_before(number) if migration is not None else ():
            if _drop(migration, state, drop, number):
                layouts = {}
        mask, layout = None, None
        if gathering is not None:
            kind = number in gathering.global_blocks
            if kind not in layouts:
                layouts[kind] = gathering.layout(number, state.windows, batch, state.content)
            layout = layouts[kind]
        elif state.content is not None:
            mask = state.content[:, None, None]
        state.x = block(state.x, mask, None, layout)
    return state


def _drop(migration: TokenMigration | None, state: TokenState, number: int, block: int) -> bool:
    """Let tokens exit at drop ``number``, before ``block``; returns whether any did."""
    assert migration is not None
    tokens, batch = state.tokens(), len(state.x)
    split = migration.split(tokens, state.content, state.windows, number)
    if split is None:
        return False
    cells = state.cells.expand(batch, -1)
    leaving = migration.leave(gather_units(tokens, split.leaving), number)
    state.left.append((leaving, cells.gather(1, split.leaving)))
    staying = gather_units(tokens, split.staying)
    state.cells = cells.gather(1, split.staying)
    state.x = torch.cat((staying, state.x[:, state.windows.total :]), 1)
    state.windows, state.content = split.windows, split.content
    state.frozen = None if split.content is None else staying
    state.drops.append((block, state.cells, split.content))
    return True
