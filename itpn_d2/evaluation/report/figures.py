"""Figures as PNG data that a page can hold."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure

_NAMED = 40  # classes: more names could not be read
_COUNTED = 12  # classes: more counts could not be read


def as_data(image: np.ndarray, quality: int = 88) -> str:
    """An RGB uint8 picture as a ``data:`` address, JPEG.

    Args:
        image: ``(H, W, 3)``.
        quality: of the JPEG, 0 to 100.
    """
    _, encoded = cv2.imencode(
        ".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _data_of(figure: Figure) -> str:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def recall_curves(curves: Mapping[str, np.ndarray], title: str, thin: bool = False) -> str:
    """Precision over recall; each curve has its values at 0 to 1 in equal steps.

    Each curve is ``(R,)``, precision in fractions, nan where there is none.
    """
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axis = figure.subplots()
    for number, (label, values) in enumerate(curves.items()):
        mean = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        style = ("-", "--", ":", "-.")[number // 10 % 4]
        axis.plot(
            np.linspace(0, 1, len(values)),
            values,
            style,
            color=f"C{number % 10}",
            linewidth=1.2 if thin else 2,
            label=f"{label} ({100 * mean:.1f})",
        )
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
    axis.grid(alpha=0.3)
    if len(curves) <= _NAMED:
        for text in axis.legend(
            fontsize=8 if len(curves) <= 12 else 6, ncols=1 + len(curves) // 14
        ).get_texts():
            text.set_parse_math(False)
    return _data_of(figure)


def confusion_map(counts: np.ndarray, rows: Sequence[str], columns: Sequence[str], unit: str) -> str:
    """Shares of each row as a map, with the counts themselves where they can be read.

    Args:
        counts: ``(len(rows), len(columns))``, true class by predicted class.
        unit: ``count`` writes the counts into the map, anything else shares in percent.
    """
    total = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    size = float(np.clip(0.32 * len(rows) + 2.2, 4.2, 14))
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, ax=axis, shrink=0.7, label="share of the row")
    axis.set(xlabel="predicted", ylabel="true")
    if max(len(rows), len(columns)) <= _NAMED:
        axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
        axis.set_yticks(range(len(rows)), rows, fontsize=8)
        for text in (*axis.get_xticklabels(), *axis.get_yticklabels()):
            text.set_parse_math(False)
    if len(rows) <= _COUNTED:
        for (row, column), share in np.ndenumerate(shares):
            text = f"{counts[row, column]}" if unit == "count" else f"{100 * share:.0f}"
            axis.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    return _data_of(figure)


def class_bars(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """A bar for each class, the largest on top."""
    ordered = sorted(rows, key=lambda row: -1.0 if np.isnan(row[key]) else row[key])
    figure = Figure(figsize=(6, float(np.clip(0.24 * len(rows) + 1, 2, 24))), layout="constrained")
    axis = figure.subplots()
    values = [np.nan_to_num(row[key]) for row in ordered]
    bars = axis.barh(range(len(ordered)), values, color="#3572b0")
    labels = ["not there" if np.isnan(row[key]) else f"{row[key]:.1f}" for row in ordered]
    axis.bar_label(bars, labels, padding=3, fontsize=7)
    axis.set_yticks(range(len(ordered)), [row["name"] for row in ordered], fontsize=7)
    for text in axis.get_yticklabels():
        text.set_parse_math(False)
    axis.set(xlim=(0, 108), xlabel=f"{key}, percent")
    axis.margins(y=0.01)
    return _data_of(figure)
