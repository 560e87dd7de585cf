"""The picture of a benchmark: throughput against resolution."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.clock import MeasurementError
from benchmarks.models import Size
from itpn_d2.files import written_whole

_MARKERS = "osv^Dx*P"
Curves = Mapping[str, Mapping[Size, float]]  # by name, images per second by size


def throughput_plot(path: Path, panels: Mapping[str, Curves], title: str) -> None:
    """Images per second over the side of a square image of as many pixels, both logarithmic, as PNG; a name
    looks the same in all panels, and panels of a single size are left out.

    Raises:
        MeasurementError: there is nothing to draw.
    """
    panels = {name: curves for name, curves in panels.items() if len(_sizes(curves)) > 1}
    if not panels:
        raise MeasurementError(
            f"{path}: no forward pass was timed at two sizes; add the case acceleration or peers"
        )
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 4 * rows), dpi=120, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (name, curves) in zip(axes, panels.items(), strict=False):
        for label in sorted(curves, key=labels.index):
            number, points = labels.index(label), sorted(curves[label].items(), key=lambda p: p[0].pixels)
            x, y = [size.pixels**0.5 for size, _ in points], [speed for _, speed in points]
            style = {"marker": _MARKERS[number % len(_MARKERS)], "color": f"C{number % 10}"}
            axis.plot(x, y, **style, markersize=4, linewidth=1, label=label)
        axis.set(xscale="log", yscale="log", xlabel="image, pixels", ylabel="images / s", title=name)
        ticks = _sizes(curves)
        near = [a.pixels > 0.7 * b.pixels for a, b in pairwise(ticks)]
        texts = [
            str(ticks[0]),
            *("\n" * below + str(size) for below, size in zip(near, ticks[1:], strict=True)),
        ]
        axis.set_xticks([size.pixels**0.5 for size in ticks], texts, fontsize=8)
        axis.minorticks_off()
        axis.grid(True, alpha=0.3)
        axis.legend(fontsize=7)
    with written_whole(path) as partial:
        figure.savefig(partial)


def _sizes(curves: Curves) -> list[Size]:
    """The sizes of all curves, small ones first."""
    found = {size for speeds in curves.values() for size in speeds}
    return sorted(found, key=lambda size: size.pixels)
