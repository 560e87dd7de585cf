"""Images with the classes that were predicted for them, as one picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import ImageOps

from ..data.decode import BrokenImageError, decode, open_image

_RIGHT, _WRONG = "#1a7f37", "#cf222e"


def label_grid(
    records: Sequence[dict[str, Any]],
    predictions: Sequence[dict[str, Any]],
    classes: Sequence[str],
    columns: int = 4,
    side: int = 240,
) -> np.ndarray:
    """RGB uint8 picture: each image over its three best classes, green where the first is right, else red
    with the true class.

    Args:
        records: dicts with ``file_name`` and, where known, ``label``.
        predictions: of the same images, ``{"scores": (num_classes,)}``.
        classes: names.
        side: of an image in the picture, in pixels.

    Raises:
        ValueError: there is nothing to draw, or not one prediction for each record.
    """
    if not records or len(records) != len(predictions):
        raise ValueError(
            f"{len(records)} records with {len(predictions)} predictions: one for each is needed"
        )
    columns = min(columns, len(records))
    rows = -(-len(records) // columns)
    dpi = 100
    figure = Figure((columns * (side + 30) / dpi, rows * (side + 80) / dpi), dpi=dpi, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, record, prediction in zip(axes, records, predictions, strict=False):
        axis.imshow(_thumbnail(record["file_name"], side))
        best = prediction["scores"].float().cpu().topk(min(3, len(classes)))
        lines = [f"{classes[i]} {s:.0%}" for i, s in zip(best.indices, best.values, strict=True)]
        label, colour = record.get("label"), "black"
        if label is not None:
            right = int(best.indices[0]) == label
            colour = _RIGHT if right else _WRONG
            if not right:
                lines[0] += f" (is {classes[label]})"
        axis.set_title("\n".join(lines), fontsize=8, color=colour, parse_math=False)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _thumbnail(path: str, side: int) -> np.ndarray:
    try:
        with open_image(path) as image:
            return np.asarray(ImageOps.pad(decode(image), (side, side), color="white"))
    except BrokenImageError:
        return np.full((side, side, 3), 255, np.uint8)
