"""Random numbers that belong to samples: functions of (seed, position of the sample, purpose, place) alone.

What a step draws from these (masks, dropped paths, training examples) is the same on any number of processes,
for any split into micro-batches, on every device and after a resume. Outside of a block of :func:`drawing`,
and for batches that do not say where their samples stand, torch's global generator is used. The idea and the
hash (SplitMix64's) are those of counter-based generators such as JAX's; the use by position is ours.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor

from .transfer import upload

PATHS = 512  # columns of the table that :class:`.DropPath` reads
_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >= 1 << 63 else word


def _mixed(word: int) -> int:
    for shift, factor in _STEPS:
        word = ((word ^ (word >> shift)) * factor) & _WORD
    return word ^ (word >> 31)


def _shifted(words: Tensor, by: int) -> Tensor:
    """A logical shift to the right, which int64 has not."""
    return (words >> by) & (_WORD >> by)


def _mixed_all(words: Tensor) -> Tensor:
    """:func:`_mixed` of int64 words."""
    for shift, factor in _STEPS:
        words = (words ^ _shifted(words, shift)) * _signed(factor)
    return words ^ _shifted(words, 31)


def _uniform(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    """float32 ``(len(keys), *shape)`` in [0, 1), with 24 random bits each."""
    places = torch.arange(1, math.prod(shape) + 1, device=keys.device) * _signed(_GOLDEN)
    words = _mixed_all(keys[:, None] + places)
    return (_shifted(words, 40).float() * 2**-24).reshape(len(keys), *shape)


class Draws:
    """The random numbers of a batch of B samples.

    Args:
        seed: of the run.
        positions: of the samples in the endless sequence that the run goes through.
        device: of the tensors that are drawn.
    """

    def __init__(self, seed: int, positions: Sequence[int], device: torch.device | str = "cpu"):
        start = _mixed(seed & _WORD)
        self.device = torch.device(device)
        self._keys = [_mixed((start + _GOLDEN * (position + 1)) & _WORD) for position in positions]
        self._calls: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def _words(self, purpose: str) -> list[int]:
        """One key for each sample, others at each call for the same purpose."""
        call = self._calls[purpose] = self._calls.get(purpose, 0) + 1
        salt = _mixed((zlib.crc32(purpose.encode()) << 32) | call)
        return [_mixed(key ^ salt) for key in self._keys]

    def _tensor(self, purpose: str) -> Tensor:
        keys = torch.tensor([_signed(word) for word in self._words(purpose)], dtype=torch.int64)
        return upload(keys, self.device)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """float32 ``(B, *shape)`` in [0, 1). A longer first side continues the numbers of a shorter one."""
        return _uniform(self._tensor(purpose), shape)

    def seeds(self, purpose: str) -> list[int]:
        """One seed for each sample, for what takes its numbers from torch's global generators."""
        return [word >> 1 for word in self._words(purpose)]

    def generators(self, purpose: str) -> list[Generator]:
        """One generator of the CPU for each sample, where what is drawn depends on what was drawn."""
        return [Generator().manual_seed(seed) for seed in self.seeds(purpose)]


_current: Draws | None = None
_paths: Tensor | None = None  # by itself, so that a compiled graph takes it as an input


@contextmanager
def drawing(draws: Draws | None) -> Iterator[None]:
    """Within the block, of forward and backward pass, the samples of the batch draw from ``draws``.

    The state is the process's, not the thread's: activations are recomputed in a thread of autograd's.
    """
    global _current, _paths
    outer = _current, _paths
    _current, _paths = draws, None if draws is None else draws.uniform("paths", PATHS)
    try:
        yield
    finally:
        _current, _paths = outer


def draws_of(batch: int) -> Draws | None:
    """Those of the block around, if there is one and it has ``batch`` samples."""
    return _current if _current is not None and len(_current) == batch else None


def path_table(batch: int) -> Tensor | None:
    """``(B, PATHS)`` in [0, 1) for dropped paths; None where :func:`draws_of` gives None."""
    return _paths if _paths is not None and len(_paths) == batch else None


class Reseeded:
    """Torch's global generators, seeded anew before each image's turn: for what takes numbers from them."""

    def __init__(self, purpose: str, batch: int):
        draws = draws_of(batch)
        self._seeds: Iterator[int] = iter(() if draws is None else draws.seeds(purpose))

    def next_image(self) -> None:
        """Does nothing where the images of a batch have no draws."""
        seed = next(self._seeds, None)
        if seed is not None:
            torch.manual_seed(seed)
