"""The picture of a benchmark: throughput against resolution."""

import os
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from benchmark_clock import MeasurementError
from benchmark_models import Size
from itpn_d2.evaluation.files import partial_name

_MARKERS = "osv^Dx*P"
Curves = Mapping[str, Mapping[Size, float]]  # by name, images per second by size


def throughput_plot(path: Path, panels: Mapping[str, Curves], title: str) -> None:
    """Images per second over the side of a square image of as many pixels, both logarithmic, as PNG; empty
    panels are left out.

    Raises:
        MeasurementError: there is nothing to draw.
    """
    panels = {name: curves for name, curves in panels.items() if any(curves.values())}
    if not panels:
        raise MeasurementError(f"{path}: no forward pass was timed; add the case acceleration or peers")
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 4 * rows), dpi=120, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (name, curves) in zip(axes, panels.items(), strict=False):
        sizes: set[Size] = set()
        for number, (label, speeds) in enumerate(curves.items()):
            points = sorted(speeds.items(), key=lambda point: point[0].pixels)
            sizes |= set(speeds)
            x, y = [size.pixels**0.5 for size, _ in points], [speed for _, speed in points]
            axis.plot(x, y, marker=_MARKERS[number % len(_MARKERS)], markersize=4, linewidth=1, label=label)
        axis.set(xscale="log", yscale="log", xlabel="image, pixels", ylabel="images / s", title=name)
        ticks = sorted(sizes, key=lambda size: size.pixels)
        axis.set_xticks([size.pixels**0.5 for size in ticks], [str(size) for size in ticks], fontsize=8)
        axis.minorticks_off()
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize=7)
    partial = partial_name(path)
    figure.savefig(partial)
    os.replace(partial, path)
