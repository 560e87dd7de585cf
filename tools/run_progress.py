"""Where trainings in other processes are, read from the last line of their ``metrics.json``."""

import json
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

_TAIL = 16384  # bytes: the last lines


def last_metrics(folder: Path) -> dict[str, float]:
    """The newest whole line of the folder's ``metrics.json``; empty where there is none yet."""
    try:
        with open(folder / "metrics.json", "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:  # the training is just writing it
            continue
        if isinstance(found, dict):
            return found
    return {}


def progress(folders: Iterable[Path]) -> str:
    """``none_1: iteration 120, 0:03:10 left; ...``, in the order of the names; a run that has not logged
    anything yet is starting."""
    said = []
    for folder in sorted(folders):
        found = last_metrics(folder)
        if "iteration" not in found:
            said.append(f"{folder.name}: starting")
            continue
        text = f"{folder.name}: iteration {int(found['iteration']) + 1}"
        if "eta_seconds" in found:
            text += f", {timedelta(seconds=round(found['eta_seconds']))} left"
        said.append(text)
    return "; ".join(said)
