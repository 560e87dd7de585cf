"""Random state as a function of place, not of history."""

import random

import numpy as np
import torch


def seed_step(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators from ``key``, e.g. (seed, step, rank)."""
    words = np.random.SeedSequence([k & 0xFFFFFFFF for k in key]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed((int(words[2]) << 31) ^ int(words[3]))
