"""An exported file counts once it was run again: compared with the model and timed beside it."""

import importlib.util
import statistics
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..engine.timing import interleave
from ..meta_arch import DINO
from .formats import FORMATS, Call, formats_of
from .subjects import Detector, Features, Queries


@dataclass
class Result:
    """What became of one format.

    Attributes:
        name, file, mib: the format and its file.
        differences: largest absolute difference from eager by size; of a detector that of scores and of
            boxes in pixels, whichever is larger.
        eager_ms, exported_ms: median milliseconds by size, taken in turns.
        reason: why it failed, else None.
    """

    name: str
    file: str = ""
    mib: float = 0.0
    differences: dict[str, float] = field(default_factory=dict)
    eager_ms: dict[str, float] = field(default_factory=dict)
    exported_ms: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


def difference(eager: list[Tensor], exported: list[Tensor], fields: list[str] | None) -> float:
    """The largest absolute one. Detections are compared in the order of their scores.

    Raises:
        ValueError: shapes differ.
    """
    if [a.shape for a in eager] != [b.shape for b in exported]:
        shapes = " ".join(f"{tuple(a.shape)}/{tuple(b.shape)}" for a, b in zip(eager, exported, strict=False))
        raise ValueError(f"the eager and the exported model return different shapes: {shapes}")
    if fields is None:
        return max(float((a - b).abs().max()) for a, b in zip(eager, exported, strict=True))
    largest = 0.0
    orders = [
        found[fields.index("scores")].argsort(descending=True, stable=True) for found in (eager, exported)
    ]
    for name, a, b in zip(fields, eager, exported, strict=True):
        if len(a) and name != "pred_classes":
            largest = max(largest, float((a[orders[0]].float() - b[orders[1]].float()).abs().max()))
    return largest


def _step(call: Call, image: Tensor, _: int) -> None:
    call(image)


def measure(
    name: str, eager: Call, exported: Call, images: dict[str, Tensor], fields: list[str] | None, rounds: int
) -> Result:
    """Difference and latency of a format at each size.

    Args:
        images: ``(3, H, W)`` each, 0..255, by the name of their size; features get them as ``(1, 3, H, W)``.
        fields: of a detector's results; None for features.
        rounds: calls of each that are timed; the medians are in milliseconds.
    """
    result = Result(name)
    device = next(iter(images.values())).device
    for size, image in images.items():
        given = image if fields is not None else image[None]
        with torch.inference_mode():
            result.differences[size] = difference(eager(given), exported(given), fields)
            steps = [partial(_step, call, given) for call in (eager, exported)]
            times = interleave(steps[0], steps[1], rounds, device)
        result.eager_ms[size], result.exported_ms[size] = (1000 * statistics.median(t) for t in times)
    return result


def export(
    name: str, model: nn.Module, images: dict[str, Tensor], folder: Path, stem: str, rounds: int
) -> Result:
    """Write one format, load it again and compare; a failure is a result, too.

    Args:
        images: ``(3, H, W)``, 0..255, by size; the first is the example that is exported with.
        stem: what the file's name begins with.
        rounds: of timing.
    """
    format = FORMATS[name]
    if name not in formats_of(model):
        return Result(name, reason=f"not for {type(model).__name__}; it has {', '.join(formats_of(model))}")
    lacking = [package for package in format.needs if importlib.util.find_spec(package) is None]
    if lacking:
        return Result(name, reason=f"needs {', '.join(lacking)}: pip install 'itpn-d2[export]'")
    size, first = next(iter(images.items()))
    images = {size: first} if format.fixed else images
    path = folder / f"{stem}{format.suffix}"
    try:
        subject: nn.Module
        fields, example = None, first[None]
        if format.subject == "features":
            subject = Features(model).eval()
        elif isinstance(model, DINO):
            subject = Queries(model).eval()
        else:
            subject = Detector(model, first).eval()
            fields, example = subject.fields, first
        format.write(subject, example, path)
        result = measure(name, lambda x: list(subject(x)), format.load(path), images, fields, rounds)
    except Exception as error:
        return Result(name, reason=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    result.file, result.mib = path.name, path.stat().st_size / 2**20
    return result


def verdict(result: Result, tolerance: float) -> str | None:
    """What is wrong with a result; None if nothing is."""
    if result.reason is not None:
        return result.reason
    # boxes are in pixels, and reach far beyond 1
    allowed = 100 * tolerance if FORMATS[result.name].subject == "detector" else tolerance
    worst = max(result.differences.values())
    return None if worst <= allowed else f"differs by {worst:.1e}, {allowed:.0e} is allowed"


def table(results: list[Result], title: str) -> str:
    """Markdown."""
    lines = [
        title,
        "",
        "| format | file | size | difference | eager, ms | exported, ms |",
        "|---|---|---|---|---|---|",
    ]
    for r in results:
        for size, value in r.differences.items():
            times = f"{r.eager_ms[size]:.1f} | {r.exported_ms[size]:.1f}"
            lines.append(f"| {r.name} | {r.file} ({r.mib:.1f} MiB) | {size} | {value:.1e} | {times} |")
        if r.reason is not None:
            lines.append(f"| {r.name} | failed | | {r.reason} | | |")
    return "\n".join(lines) + "\n"
