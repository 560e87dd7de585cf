"""The picture of a benchmark: throughput against resolution."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmark_clock import MeasurementError


def throughput_plot(path: Path, curves: dict[str, dict[int, float]], title: str) -> None:
    """Images per second over the side of the image, both logarithmic, as PNG.

    Args:
        curves: by name, images per second by side of the image.

    Raises:
        MeasurementError: there is nothing to draw.
    """
    if not any(curves.values()):
        raise MeasurementError(f"{path}: no forward pass was timed; add the case acceleration")
    figure = Figure(figsize=(6, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    sides: set[int] = set()
    for (name, speeds), marker in zip(curves.items(), "osv^Dx", strict=False):
        sides |= set(speeds)
        points = sorted(speeds.items())
        axes.plot([p[0] for p in points], [p[1] for p in points], marker=marker, label=name)
    axes.set(xscale="log", yscale="log", xlabel="side of the image, pixels", ylabel="images / s", title=title)
    axes.set_xticks(sorted(sides), [str(s) for s in sorted(sides)])
    axes.minorticks_off()
    axes.grid(True, alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
