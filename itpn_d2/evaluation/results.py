"""One file and one table of results."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import partial_name


def flatten(results: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """``{"bbox": {"AP": 1}}`` to ``{"bbox/AP": 1}``, to any depth."""
    flat: dict[str, float] = {}
    for key, value in results.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}/"))
        else:
            flat[name] = float(value)
    return flat


def write_results(path: str | Path, results: Mapping[str, Any]) -> str:
    """Write every metric to ``path`` as ``{"bbox/AP": ...}`` (null where undefined) and return a table of them.

    Rows are tasks (with ``ema/`` for the moving average), columns the metrics they share.
    """
    flat = flatten(results)
    strict = {k: v if math.isfinite(v) else None for k, v in flat.items()}
    partial = partial_name(Path(path))
    partial.write_text(json.dumps(strict, indent=1) + "\n")
    os.replace(partial, path)
    return table(flat)


def table(flat: Mapping[str, float], per_class: bool = False) -> str:
    """Text table; metrics of single classes (``AP-name``) only when asked for."""
    rows: dict[str, dict[str, float]] = {}
    for name, value in flat.items():
        task, _, metric = name.rpartition("/")
        if per_class or "-" not in metric:
            rows.setdefault(task, {})[metric] = value
    columns = list(dict.fromkeys(m for row in rows.values() for m in row))
    width = max([len(task) for task in rows] + [6])
    lines = [" " * width + "".join(f"{c:>9}" for c in columns)]
    for task, row in rows.items():
        cells = [f"{row[c]:9.2f}" if c in row and math.isfinite(row[c]) else f"{'-':>9}" for c in columns]
        lines.append(f"{task:{width}}" + "".join(cells))
    return "\n".join(lines)
