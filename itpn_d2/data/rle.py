"""Run-length encoded masks, read without drawing them."""

from typing import Any

import numpy as np


def run_lengths(counts: Any) -> np.ndarray:
    """Lengths of the runs, background first, of COCO's ``counts``: a list of integers, or its packed string.

    pycocotools decodes a damaged string without complaint, so it is unpacked here: characters from ``0`` on
    carry 5 bits each, lowest first, and a flag that more follow; from the fourth run on a value is the
    difference to the run two before it.

    Raises:
        ValueError: not such a list or string, cut off, or a run is negative.
    """
    if isinstance(counts, list):
        if not all(isinstance(c, int) for c in counts):
            raise ValueError("counts holds something other than whole numbers")
        runs = np.asarray(counts, dtype=np.int64)
    elif isinstance(counts, str | bytes):
        runs = _unpacked(counts.encode("utf-8") if isinstance(counts, str) else counts)
    else:
        raise ValueError(f"counts is a {type(counts).__name__}, neither a list nor a string")
    if runs.size and runs.min() < 0:
        raise ValueError("a run is negative")
    return runs


def _unpacked(text: bytes) -> np.ndarray:
    values = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not values.size:
        return values
    if values.min() < 0 or values.max() > 63:
        raise ValueError("counts holds a character that does not occur in packed counts")
    ends = np.flatnonzero(values & 32 == 0)
    if not ends.size or ends[-1] != len(values) - 1:
        raise ValueError("counts is cut off")
    starts = np.concatenate(([0], ends[:-1] + 1))
    digits = ends - starts + 1
    if digits.max() > 7:
        raise ValueError("a run is longer than any image")
    place = np.arange(len(values)) - np.repeat(starts, digits)
    runs = np.add.reduceat((values & 31) << 5 * place, starts)
    runs -= np.where(values[ends] & 16, 1 << 5 * digits, 0)  # the highest bit is the sign
    for first in (1, 2):
        runs[first::2] = np.cumsum(runs[first::2])
    return runs
