"""One file and one table of results, and metrics by name."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import write_json


def flatten(results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """``{"bbox": {"AP": 1}}`` to ``{"bbox/AP": 1}``, to any depth.

    Raises:
        TypeError: a value is not a number.
    """
    flat: dict[str, float] = {}
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}/"))
            continue
        try:
            flat[name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"result {name} is {value!r}: evaluators return numbers") from None
    return flat


def named_metric(results: Mapping[str, Any], name: str) -> float:
    """The metric ``name`` (``segm/AP``, ``ema/bbox/AP50``) of nested or flat results.

    Raises:
        KeyError: it was not measured; the message lists what was.
    """
    flat = flatten(results)
    if name not in flat:
        there = ", ".join(sorted(flat)) or "none, the evaluation gave no results"
        raise KeyError(f"metric {name!r} was not measured; there are: {there}")
    return flat[name]


def is_better(value: float, best: float | None, mode: str = "max") -> bool:
    """Whether ``value`` beats ``best`` (None: no value yet); nan and an equal value never do.

    Raises:
        ValueError: ``mode`` is neither ``max`` nor ``min``.
    """
    if mode not in ("max", "min"):
        raise ValueError(f"mode {mode!r}: choose max or min")
    if math.isnan(value):
        return False
    return best is None or (value > best if mode == "max" else value < best)


def write_results(path: str | Path, results: Mapping[str, Any]) -> str:
    """Write every metric to ``path`` as ``{"bbox/AP": ...}`` (null where undefined) and return a table of
    them.

    Rows are tasks (with ``ema/`` for the moving average), columns the metrics they share.
    """
    flat = flatten(results)
    write_json(path, flat)
    return table(flat)


def table(flat: Mapping[str, float], per_class: bool = False) -> str:
    """Text table; metrics of single classes (``AP-name``) only when asked for."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in flat.items():
        # a class name may hold a slash: what follows the first "/AP-" belongs to it
        head, dash, class_name = name.partition("-")
        task, _, metric = head.rpartition("/")
        if per_class or not dash:
            rows.setdefault(task, {})[metric + dash + class_name] = value
    if not rows:
        return "no results"
    columns = list(dict.fromkeys(m for row in rows.values() for m in row))
    widths = [max(8, len(c)) + 1 for c in columns]
    first = max([len(task) for task in rows] + [6])
    lines = [" " * first + "".join(f"{c:>{w}}" for c, w in zip(columns, widths, strict=True))]
    for task, row in rows.items():
        values = [row.get(c, math.nan) for c in columns]
        cells = [
            f"{v:{w}.2f}" if math.isfinite(v) else f"{'-':>{w}}" for v, w in zip(values, widths, strict=True)
        ]
        lines.append(f"{task:{first}}" + "".join(cells))
    return "\n".join(lines)
