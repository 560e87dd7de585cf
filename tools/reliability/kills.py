"""Runs that are killed at random moments and while a file is written, resumed, and compared in the end with
one that nobody disturbed."""

import contextlib
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from itpn_d2.checkpoint import load_state_file
from itpn_d2.errors import UseError

from . import forks, runs

LENGTH = {"training": 8, "pre-training": 4}
_LONGEST = 300.0  # seconds that a run may take
_MAX_KILLS = 8  # of one chain, which then comes to its end


def _kill_at_random(child: int, folder: Path, rng: random.Random, usual: float) -> bool:
    """Kill within what a run usually takes; False where it had ended before."""
    if forks.wait(child, rng.uniform(0.05, usual)) is not None:
        return False
    forks.kill(child)
    return True


def _kill_while_writing(child: int, folder: Path, rng: random.Random, usual: float) -> bool:
    """Kill as soon as a temporary file is seen, sometimes a later one."""
    seen: set[str] = set()
    wanted, deadline = rng.randint(1, 12), time.monotonic() + _LONGEST
    while time.monotonic() < deadline:
        if forks.wait(child, 0) is not None:
            return False
        seen |= _partial(folder) if folder.is_dir() else set()
        time.sleep(0.002)
        if len(seen) >= wanted:
            break
    forks.kill(child)
    return True


def _partial(folder: Path) -> set[str]:
    """The temporary files that are in a folder now, each under a name of its own."""
    found = set()
    for path in folder.iterdir():
        if ".partial" in path.name:
            with contextlib.suppress(FileNotFoundError):  # it has just got its own name
                found.add(f"{path.name} {path.stat().st_ino}")
    return found


def _damaged(folder: Path) -> int:
    """Checkpoints in a folder that can't be read, and a mark of the last one that names none."""
    bad = 0
    for path in runs.checkpoints(folder):
        try:
            load_state_file(path)
        except UseError:
            bad += 1
    tag = folder / "last_checkpoint"
    return bad + (tag.is_file() and not (folder / tag.read_text().strip()).is_file())


def left_over(folder: Path) -> list[str]:
    """Names that a run at its end should not have left: temporary files, and checkpoints beyond two."""
    names = sorted(p.name for p in folder.iterdir())
    partial = [name for name in names if ".partial" in name]
    numbered = [name for name in names if name.startswith("model_0")]
    scenes = [p.name for p in (folder.parent / "scenes").iterdir() if p.name.startswith(".")]
    return [*partial, *numbered[:-2], *scenes]


def undisturbed(kind: str, folder: Path) -> tuple[Path, float]:
    """The last checkpoint of a run that comes to its end, and the seconds that it took.

    Raises:
        RuntimeError: it does not.
    """
    began = time.monotonic()
    log = folder.with_suffix(".log")
    found = forks.outcome(runs.call(kind, folder, LENGTH[kind], False), log, _LONGEST)
    if found.kind != forks.ACCEPTED:
        raise RuntimeError(f"the undisturbed {kind} failed:\n{found.text}")
    return folder / "model_final.pth", time.monotonic() - began


def campaign(
    folder: Path, seed: int, kills: int, until: float, said: Callable[[str], None] = print
) -> Counter[str]:
    """Chains of killed and resumed runs, training and pre-training in turns.

    Args:
        kills: how many are wanted; the last chain is brought to its end.
        until: on the monotonic clock, when no new chain begins.

    Returns:
        Counts: ``kills``, ``while writing``, ``chains``, and the faults ``corrupted`` (checkpoints that can't
        be read), ``failed resumes``, ``different`` (chains whose weights differ in the end), ``left over``.
    """
    rng, counts = random.Random(seed), Counter[str]()
    reference = {kind: undisturbed(kind, folder / f"whole_{kind}") for kind in LENGTH}
    while counts["kills"] < kills and time.monotonic() < until:
        kind = sorted(LENGTH)[counts["chains"] % 2]
        out = folder / f"chain_{counts['chains']}"
        expected, usual = reference[kind]
        for _ in range(min(_MAX_KILLS, kills - counts["kills"])):
            writing = rng.random() < 0.5
            child = forks.start(runs.call(kind, out, LENGTH[kind], True), out.with_suffix(".log"))
            hit = (_kill_while_writing if writing else _kill_at_random)(child, out, rng, usual)
            if not hit:
                break
            counts["kills"] += 1
            counts["while writing"] += writing
            counts["corrupted"] += _damaged(out) if out.is_dir() else 0
        log = out.with_suffix(".log")
        ended = forks.outcome(runs.call(kind, out, LENGTH[kind], True), log, _LONGEST)
        counts["chains"] += 1
        final = out / "model_final.pth"
        if ended.kind != forks.ACCEPTED or not final.is_file():
            counts["failed resumes"] += 1
            said(f"chain {counts['chains'] - 1}, {kind}: {ended.kind}\n{ended.text}")
            continue
        if not runs.same_weights(expected, final):
            counts["different"] += 1
            said(f"chain {counts['chains'] - 1}, {kind}: other weights than the undisturbed run")
        if rest := left_over(out):
            counts["left over"] += len(rest)
            said(f"chain {counts['chains'] - 1}, {kind}: left over: {', '.join(rest)}")
        shutil.rmtree(out)
    return counts
