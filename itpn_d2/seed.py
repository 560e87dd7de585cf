"""Random state as a function of place, not of history."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_step(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators from ``key``, e.g. (seed, step, rank)."""
    words = np.random.SeedSequence([k & 0xFFFFFFFF for k in key]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed((int(words[2]) << 31) ^ int(words[3]))


@contextmanager
def seeded(*key: int) -> Iterator[None]:
    """Python's, NumPy's and torch's (CPU) random state from ``key`` within the block, as it was after it."""
    outer = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    words = np.random.SeedSequence([k & 0xFFFFFFFF for k in key]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        random.setstate(outer[0])
        np.random.set_state(outer[1])
        torch.default_generator.set_state(outer[2])
