"""The run as a picture: losses, learning rate and metrics over iterations."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..files import written_whole

Series = dict[str, tuple[np.ndarray, np.ndarray]]
_METRICS = ("bbox/AP", "segm/AP", "sem_seg/mIoU", "panoptic_seg/PQ", "classification/top1")


def read_metrics(path: str | Path) -> Series:
    """``metrics.json`` (one json object a line) as ``{name: (iterations, values)}``.

    Of an iteration written twice the later line counts, and where the iterations jump back, as in a resume
    from a checkpoint, what the abandoned part wrote beyond is left out; so are lines that are no text or
    were cut by a crash.
    """
    rows: dict[int, dict[str, Any]] = {}
    last = -1
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            iteration = int(row["iteration"])
        except (ValueError, KeyError, TypeError):
            continue
        if iteration < last:
            rows = {i: r for i, r in rows.items() if i <= iteration}
        last = iteration
        rows.setdefault(iteration, {}).update(row)
    series: Series = {}
    for name in sorted({name for row in rows.values() for name in row} - {"iteration"}):
        points = [(i, row[name]) for i, row in sorted(rows.items()) if isinstance(row.get(name), int | float)]
        series[name] = (
            np.array([p[0] for p in points], dtype=int),
            np.array([p[1] for p in points], dtype=float),
        )
    return series


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over about a twentieth of the run; the ends average over what there is."""
    reach = len(values) // 40
    kernel = np.ones(2 * reach + 1)
    counts = np.convolve(np.ones_like(values), kernel)
    return (np.convolve(values, kernel) / counts)[reach : reach + len(values)]


def _plot_losses(axis: Any, series: Series) -> None:
    for name in ("total_loss", *(n for n in series if n.startswith("loss_"))):
        if name not in series:
            continue
        x, y = series[name]
        style = {"color": "black", "linewidth": 1.8} if name == "total_loss" else {"linewidth": 1.0}
        (line,) = axis.plot(x, _smooth(y), label=name.replace("_", " "), **style)
        axis.plot(x, y, color=line.get_color(), alpha=0.2, linewidth=0.6)
    if "val_loss" in series:
        axis.plot(
            *series["val_loss"],
            color="black",
            linestyle="--",
            marker="o",
            markersize=4,
            label="validation loss",
        )
    axis.set(title="loss", xlabel="iteration", yscale="log")


def _plot_metrics(axis: Any, series: Series) -> None:
    top = 0.0
    for i, name in enumerate(_METRICS):
        for full, style in ((name, "-"), (f"ema/{name}", "--")):
            if full in series:
                x, y = series[full]
                axis.plot(x, y, style, color=f"C{i}", marker="o", markersize=4, label=full)
                top = max([top, *y[np.isfinite(y)]])
    axis.set(
        title="validation", xlabel="iteration", ylabel="percent", ylim=(0, min(100.0, max(10.0, 1.15 * top)))
    )


def plot_curves(metrics: str | Path, picture: str | Path) -> None:
    """Draw ``metrics.json`` into the PNG ``picture``, whole or not at all; nothing when there is no metrics
    file yet.

    Losses (thin: as logged; thick: moving average) on a logarithmic axis, the learning rate, and the main
    metric of each task, with that of the moving-average weights dashed.
    """
    if not Path(metrics).is_file():
        return
    from matplotlib.figure import Figure  # slow to import, and without pyplot no display is needed

    series = read_metrics(metrics)
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    losses, rate, scores = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    _plot_losses(losses, series)
    if "lr" in series:
        rate.plot(*series["lr"], color="black")
    rate.set(title="learning rate", xlabel="iteration")
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _plot_metrics(scores, series)
    for axis in (losses, rate, scores):
        axis.grid(alpha=0.3, which="both" if axis is losses else "major")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, ncols=2 if axis is losses else 1)
    with written_whole(picture) as partial:
        figure.savefig(partial, dpi=100)
