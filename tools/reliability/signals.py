"""Signals to the whole process group of a run, as Slurm, systemd and a terminal send them."""

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from itpn_d2.checkpoint import load_state_file
from itpn_d2.errors import UseError

from . import runs

NUMBERS = (signal.SIGTERM, signal.SIGINT)
FORMS: dict[str, tuple[list[str], list[str]]] = {
    "no workers": ([], []),
    "2 workers": ([], ["dataloader.train.num_workers=2"]),
    "2 processes": (["--num-processes", "2"], []),
}
_START, _END = 300.0, 120.0  # seconds


def cases(rounds: int) -> Iterator[tuple[str, str, signal.Signals]]:
    """Kind of run, form, and signal: 12 a round."""
    for _ in range(rounds):
        for kind in runs.CONFIGS:
            for form in FORMS:
                for number in NUMBERS:
                    yield kind, form, number


def saved(folder: Path, kind: str, form: str, number: signal.Signals, rng: random.Random) -> str:
    """Empty where a run that gets a signal saves a checkpoint that can be read and leaves with status 0; else
    what it did instead."""
    flags, more = FORMS[form]
    command = runs.command(kind, folder, 100_000, flags, *more)
    log = folder.with_suffix(".log")
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=runs.ROOT, start_new_session=True, stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )
    try:
        deadline, metrics = time.monotonic() + _START, folder / "metrics.json"
        while not (metrics.is_file() and metrics.stat().st_size):
            if process.poll() is not None or time.monotonic() > deadline:
                return f"did not begin: {log.read_text(errors='replace')[-800:]}"
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 1.5))
        done = metrics.read_text().count("\n")
        os.killpg(process.pid, number)
        try:
            status = process.wait(_END)
        except subprocess.TimeoutExpired:
            return "did not end"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if status:
        return f"status {status}: {log.read_text(errors='replace')[-800:]}"
    try:
        tag = (folder / "last_checkpoint").read_text().strip()
        iteration = load_state_file(folder / tag)["iteration"]
    except (OSError, UseError) as error:
        return f"no checkpoint: {error}"
    return "" if iteration + 1 >= done else f"saved iteration {iteration} of {done}"


def campaign(folder: Path, seed: int, rounds: int, said: Callable[[str], None] = print) -> Counter[str]:
    """Counts of ``signals`` and of those after which all was ``saved``."""
    rng, counts = random.Random(seed), Counter[str]()
    for number, (kind, form, name) in enumerate(cases(rounds)):
        fault = saved(folder / f"signal_{number}", kind, form, name, rng)
        counts["signals"] += 1
        counts["saved"] += not fault
        if fault:
            said(f"{kind}, {form}, {name.name}: {fault}")
    return counts
