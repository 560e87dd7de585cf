"""Feeds inputs to the calls that get them, and counts how these end."""

import itertools
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from . import forks
from .inputs import Inputs

FAULTS = (forks.RAW, forks.CRASH, forks.HANG, "code")
_SECONDS = 60.0  # that a call may take; one iteration of a nano model takes one or two


def feed(
    folder: Path, seed: int, wanted: int, until: float, said: Callable[[str], None] = tqdm.write
) -> dict[str, Counter[str]]:
    """How calls with ``wanted`` inputs ended, by family: see :class:`~reliability.forks.Outcome`, and
    ``code`` where the input had something executed.

    Args:
        until: on the monotonic clock, when no new input is fed.
    """
    inputs, counts = Inputs(folder, seed), dict[str, Counter[str]]()
    log = folder / "log.txt"
    for case in tqdm(itertools.islice(inputs, wanted), total=wanted, desc="inputs", disable=None):
        if time.monotonic() > until:
            break
        found = forks.outcome(case.call, log, _SECONDS)
        family = counts.setdefault(case.family, Counter())
        family[found.kind] += 1
        if inputs.marker.exists():
            family["code"] += 1
            said(f"CODE EXECUTED | {case.family} | {case.name}")
            inputs.clear_marker()
        if found.kind in FAULTS:
            last = " / ".join(found.text.strip().splitlines()[-3:])[-400:]
            said(f"{found.kind} | {case.family} | {case.name} | {found.seconds:.1f} s | {last}")
    return counts
