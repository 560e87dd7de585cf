"""Which images a batch holds: a pure function of the seed and the batch's number."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from torch.utils.data import Sampler

Place = tuple[int, int]  # (position in the endless sequence of samples, index of the record)
_CHUNK = 65536  # indices made into a list at a time; a list of them all takes five times their memory

_MAX_TRIES = 100
_STEP = 2_147_483_647  # a prime larger than any number of images, so that a walk in such steps visits all


def stand_ins(index: int, position: int, length: int) -> Iterator[int]:
    """``index``, then records to take where that one is broken, each once and at most 100: a function of the
    place alone, so that replacing is reproducible."""
    yield index
    for step in range(min(_MAX_TRIES, length) - 1):
        offset = 1 + (position * 7919 + step * _STEP) % (length - 1)
        yield (index + offset) % length


class ResumableBatchSampler(Sampler[list[Place]]):
    """Endless global batches of ``total_batch_size``, of which this rank takes its contiguous share.

    Global batch ``i`` depends on the seed and ``i`` only, so every world size sees the same batches, and
    starting at ``start_iter`` gives what skipping ``start_iter`` batches gives, without loading an image.
    Each epoch visits every record once (with ``repeats``, as often as they say on average), in a new order.

    Args:
        sizes: (width, height) of every record; wide and tall images then go to different batches, which saves
            padding. None: batches mix them.
        repeats: repeat factor of every record (LVIS-style), None for 1.

    Raises:
        ValueError: ``length`` is 0, or ``total_batch_size`` is no positive multiple of ``world_size``.
    """

    def __init__(
        self,
        length: int,
        total_batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start_iter: int = 0,
        shuffle: bool = True,
        sizes: list[Place] | None = None,
        repeats: list[float] | None = None,
    ):
        if length < 1:
            raise ValueError("the dataset has no record to sample")
        if total_batch_size < 1 or total_batch_size % world_size:
            raise ValueError(
                f"total_batch_size={total_batch_size} must be a multiple of {world_size} processes"
            )
        self.length, self.total_batch_size, self.seed = length, total_batch_size, seed
        self.rank, self.world_size, self.start_iter, self.shuffle = rank, world_size, start_iter, shuffle
        self.tall = None if sizes is None else [height > width for width, height in sizes]
        self.repeats = None if repeats is None else np.asarray(repeats, dtype=np.float64)

    def _epoch(self, number: int, first: int) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, number])
        indices = np.arange(self.length)
        if self.repeats is not None:
            whole = np.floor(self.repeats).astype(np.int64)
            extra = generator.random(self.length) < self.repeats - whole
            indices = np.repeat(indices, whole + extra)
        if self.shuffle:
            generator.shuffle(indices)
        for start in range(first, len(indices), _CHUNK):
            yield from indices[start : start + _CHUNK].tolist()

    def _places(self, position: int) -> Iterator[Place]:
        epoch, first = divmod(position, self.length)
        while True:
            for index in self._epoch(epoch, first):
                yield position, index
                position += 1
            epoch, first = epoch + 1, 0

    def _batches(self, position: int) -> Iterator[list[Place]]:
        buckets: tuple[list[Place], list[Place]] = ([], [])
        for place in self._places(position):
            bucket = buckets[0 if self.tall is None else self.tall[place[1]]]
            bucket.append(place)
            if len(bucket) == self.total_batch_size:
                yield bucket.copy()
                bucket.clear()

    def __iter__(self) -> Iterator[list[Place]]:
        share = self.total_batch_size // self.world_size
        # Groups and repeats make where a batch starts a matter of all that came before; else it is known.
        known = self.start_iter if self.tall is None and self.repeats is None else 0
        batches = self._batches(known * self.total_batch_size)
        for batch in islice(batches, self.start_iter - known, None):
            yield batch[self.rank * share : (self.rank + 1) * share]
