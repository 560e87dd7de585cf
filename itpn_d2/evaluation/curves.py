"""The run as a picture: losses, learning rate and metrics over iterations."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .files import partial_name

_METRICS = ("bbox/AP", "segm/AP", "ema/bbox/AP", "ema/segm/AP", "sem_seg/mIoU", "panoptic_seg/PQ")


def read_metrics(path: str | Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """``metrics.json`` (one json object a line) as ``{name: (iterations, values)}``.

    Of an iteration written twice, as after a resume, the later line counts; a truncated last line is left out.
    """
    rows: dict[int, dict[str, Any]] = {}
    for line in Path(path).read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows.setdefault(row["iteration"], {}).update(row)
    names = sorted({name for row in rows.values() for name in row} - {"iteration"})
    series = {}
    for name in names:
        points = [(i, row[name]) for i, row in sorted(rows.items()) if isinstance(row.get(name), int | float)]
        series[name] = (np.array([p[0] for p in points]), np.array([p[1] for p in points], dtype=float))
    return series


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over about a fortieth of the run; the ends average over what there is."""
    window = len(values) // 40
    kernel = np.ones(2 * window + 1)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones_like(values), kernel, "same")


def plot_curves(metrics: str | Path, picture: str | Path) -> None:
    """Draw ``metrics.json`` into ``picture``; nothing when there is no metrics file yet."""
    if not Path(metrics).is_file():
        return
    from matplotlib.figure import Figure  # slow to import, and without pyplot no display is needed

    series = read_metrics(metrics)
    figure = Figure(figsize=(13, 4), layout="constrained")
    losses, rate, scores = figure.subplots(1, 3)
    for name, (x, y) in series.items():
        if name in ("total_loss", "val_loss"):
            losses.plot(x, _smooth(y) if name == "total_loss" else y, label=name, linewidth=2, marker="o" * (name == "val_loss"))
        elif name.startswith("loss_"):
            losses.plot(x, _smooth(y), label=name, linewidth=0.9)
    losses.set(title="loss", xlabel="iteration", yscale="log")
    if "lr" in series:
        rate.plot(*series["lr"])
    rate.set(title="learning rate (largest group)", xlabel="iteration")
    for name in _METRICS:
        if name in series:
            scores.plot(*series[name], marker="o", label=name, linestyle="--" if name.startswith("ema/") else "-")
    scores.set(title="validation", xlabel="iteration", ylim=(0, 100))
    for axis in (losses, scores):
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    partial = partial_name(Path(picture))
    figure.savefig(partial, dpi=100)
    os.replace(partial, picture)
