"""Which cells of a grid are masked.

Every class has one call form, ``masking(batch, grid, generator, device) -> (B, N) bool``, True where masked,
N row-major over ``grid`` = (rows, columns). Random numbers come from torch on the CPU, from ``generator`` or
else from the global state, so that a run that seeds either draws the same masks on any device and after a
resume. :func:`draw` gives each sample of a run its own generator.
"""

import math
from typing import Protocol

import torch
from torch import Generator, Tensor

from itpn_d2.layers import draws_of


class Masking(Protocol):
    """The interface of maskings; ``block``, if there is one, is the side of a cell in pixels."""

    def __call__(
        self,
        batch: int,
        grid: tuple[int, int],
        generator: Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Masks ``(B, N)`` of bool, True where a cell is masked, for ``batch`` images; N row-major.

        Args:
            grid: rows and columns of cells.
            generator: source of the random numbers; None for torch's global generator.
            device: of the result.
        """


def draw(masking: Masking, batch: int, grid: tuple[int, int]) -> Tensor:
    """Masks ``(B, N)`` of a batch, on the CPU, so that reading their values does not wait for the device. In
    a training run those of a sample come from its position in the sequence of samples, for any number of
    processes; elsewhere from torch's global state."""
    draws = draws_of(batch)
    if draws is None:
        return masking(batch, grid)
    return torch.cat([masking(1, grid, generator) for generator in draws.generators("masks")])


class RandomMasking:
    """Uniformly random cells, the same number in every sample (MAE).

    Args:
        ratio: share of masked cells; ``int(N * (1 - ratio))`` cells are kept.

    Raises:
        ValueError: ``ratio`` is outside [0, 1).
    """

    def __init__(self, ratio: float = 0.75):
        if not 0 <= ratio < 1:
            raise ValueError(f"mask ratio {ratio} is not in [0, 1): some cells must stay visible")
        self.ratio = ratio

    def __call__(
        self,
        batch: int,
        grid: tuple[int, int],
        generator: Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Masks ``(B, N)`` as in :class:`Masking`."""
        count = grid[0] * grid[1]
        kept = int(count * (1 - self.ratio))
        order = torch.rand(batch, count, generator=generator).argsort(dim=1)
        mask = torch.ones(batch, count, dtype=torch.bool)
        return mask.scatter_(1, order[:, :kept], False).to(device)


class GridMasking(RandomMasking):
    """Random squares of ``block`` pixels of the image (FastMIM, SimMIM); ``grid`` counts squares, not tokens.

    Args:
        ratio: as in :class:`RandomMasking`.
        block: side of a square in pixels: 16 for a plain ViT, 32 for networks of stride 32.

    Raises:
        ValueError: ``ratio`` is outside [0, 1), or ``block`` below 1.
    """

    def __init__(self, ratio: float = 0.75, block: int = 16):
        super().__init__(ratio)
        if block < 1:
            raise ValueError(f"block {block} must be positive")
        self.block = block


class BlockMasking:
    """Random rectangles until a number of cells is covered (BEiT; iTPN on features and Fast-iTPN).

    A rectangle's area is uniform between ``min_block`` and what is still to be masked, its aspect
    log-uniform; it counts if it adds at least one cell and no more than that. Generation ends when
    ``attempts`` rectangles in a row were refused, so the number of masked cells varies below ``num_masked``
    (14x14 with 75: 74.5 on average).

    Args:
        num_masked: cells to mask.
        min_block, max_block: smallest and largest area of a rectangle in cells; None: ``num_masked``.
        aspect: smallest and largest height over width.
        exact: fill up with single random cells, so that every sample has ``num_masked`` (an option of
            ours).

    Raises:
        ValueError: ``num_masked`` below 0, ``min_block`` or ``attempts`` below 1, or ``aspect`` not ascending
            above 0.
    """

    def __init__(
        self,
        num_masked: int,
        min_block: int = 16,
        max_block: int | None = None,
        aspect: tuple[float, float] = (0.3, 1 / 0.3),
        attempts: int = 10,
        exact: bool = False,
    ):
        if num_masked < 0 or min_block < 1 or attempts < 1 or not 0 < aspect[0] <= aspect[1]:
            raise ValueError(
                f"num_masked {num_masked}, min_block {min_block}, attempts {attempts} or aspect {aspect} "
                f"is out of range"
            )
        self.num_masked, self.min_block, self.attempts, self.exact = num_masked, min_block, attempts, exact
        self.max_block = num_masked if max_block is None else max_block
        self.log_aspect = math.log(aspect[0]), math.log(aspect[1])

    def __call__(
        self,
        batch: int,
        grid: tuple[int, int],
        generator: Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """ValueError if the grid has fewer than ``num_masked`` cells."""
        if self.num_masked > grid[0] * grid[1]:
            raise ValueError(f"a {grid[0]}x{grid[1]} grid has no {self.num_masked} cells to mask")
        return torch.stack([self._sample(grid, generator) for _ in range(batch)]).flatten(1).to(device)

    def _sample(self, grid: tuple[int, int], generator: Generator | None) -> Tensor:
        mask = torch.zeros(grid, dtype=torch.bool)
        count = 0
        while count < self.num_masked:
            added = self._add_rectangle(mask, self.num_masked - count, generator)
            if not added:
                break
            count += added
        if self.exact and count < self.num_masked:
            free = (~mask.flatten()).nonzero().flatten()
            chosen = torch.randperm(len(free), generator=generator)[: self.num_masked - count]
            mask.view(-1)[free[chosen]] = True
        return mask

    def _add_rectangle(self, mask: Tensor, remaining: int, generator: Generator | None) -> int:
        """Cells added to the mask by the first acceptable rectangle, 0 if there was none."""
        rows, columns = mask.shape
        largest = min(remaining, self.max_block)
        low, high = self.log_aspect
        for area, aspect, top, left in torch.rand(self.attempts, 4, generator=generator).tolist():
            # the interval is reversed when less than min_block remains: such rectangles are mostly refused
            size = self.min_block + area * (largest - self.min_block)
            shape = math.exp(low + aspect * (high - low))
            h, w = round(math.sqrt(size * shape)), round(math.sqrt(size / shape))
            if not (0 < h < rows and 0 < w < columns):
                continue
            y, x = int(top * (rows - h + 1)), int(left * (columns - w + 1))
            window = mask[y : y + h, x : x + w]
            added = h * w - int(window.sum())
            if 0 < added <= remaining:
                window.fill_(True)
                return added
        return 0
