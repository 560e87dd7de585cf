"""What a calibration found: a table, a picture, and the setting to use."""

import math
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from calibration.grid import DENSE, Acceleration
from itpn_d2.evaluation import named_metric
from itpn_d2.files import written_whole

_STYLES = {"dense": ("black", "*"), "migration": ("C0", "o"), "gathering": ("C1", "s"), "both": ("C2", "D")}


@dataclass(frozen=True)
class Point:
    """A setting that was measured.

    Attributes:
        score: the chosen metric, larger is better; nan where it is undefined.
        speed: by how much the backbone and the whole model are faster than dense.
        latency: seconds of both: those of dense over ``speed``, since only a setting and dense are timed side
            by side.
    """

    setting: Acceleration
    score: float
    speed: Mapping[str, float]
    latency: Mapping[str, float]


def points(results: Mapping[Acceleration, dict[str, Any]], metric: str) -> list[Point]:
    """What was measured, dense first; failures are left out.

    Raises:
        KeyError: the metric was not measured; the message lists what was.
    """
    good = {s: r for s, r in results.items() if "reason" not in r}
    base = {
        part: statistics.median(t for r in good.values() for t in r["latency"][part]["seconds"][0])
        for part in ("backbone", "model")
    }
    found = []
    for setting, result in good.items():
        scores = {k: math.nan if v is None else v for k, v in result["metrics"].items()}
        # dense is what the others are measured by; its own ratio tells the noise
        speed = {p: 1.0 if setting == DENSE else result["latency"][p]["value"] for p in base}
        latency = {p: base[p] / speed[p] for p in base}
        found.append(Point(setting, named_metric(scores, metric), speed, latency))
    return sorted(found, key=lambda point: point.setting != DENSE)


def front(found: Sequence[Point], part: str = "model") -> list[Point]:
    """The points that no other beats in both latency and metric, fastest first."""
    best, chosen = -math.inf, []
    for point in sorted(found, key=lambda p: (p.latency[part], -p.score)):
        if point.score > best:
            best = point.score
            chosen.append(point)
    return chosen


def fastest(found: Sequence[Point], max_loss: float, part: str = "model") -> Point:
    """The fastest point that loses at most ``max_loss`` of the metric of dense, or dense itself.

    Raises:
        ValueError: the metric of dense is undefined.
    """
    dense = next(point for point in found if point.setting == DENSE)
    if math.isnan(dense.score):
        raise ValueError("the metric of the dense model is undefined: choose another --metric")
    good = [point for point in found if point.score >= dense.score - max_loss]
    return min(good, key=lambda point: (point.latency[part], -point.score))


def overrides(options: Mapping[str, Any], present: Mapping[str, bool], yacs: bool) -> list[str]:
    """``key=value`` for the command line that turn a setting on.

    Args:
        options: arguments of :meth:`~itpn_d2.backbone.Trunk.accelerate`.
        present: whether the config itself turns a part on, and so has to be told where it is to be off.
        yacs: the config is a ``.yaml``.
    """
    found = []
    for part, values in options.items():
        if values is None and not present[part]:
            continue
        if yacs:
            key = f"MODEL.ITPN.{part.upper()}"
            found.append(f"{key}.ENABLED={values is not None}")
            found += [f"{key}.{name.upper()}={value}" for name, value in (values or {}).items()]
        else:
            text = "null" if values is None else _hydra(values)
            found.append(f"model.backbone.{part}={text}")
    return found


def _hydra(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_hydra(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_hydra(v) for v in value) + "]"
    return str(value)


def command(config: str, checkpoint: str, given: Sequence[str], more: Sequence[str]) -> str:
    """The call of train_net.py that evaluates a setting, for a shell."""
    words = ["python", "train_net.py", "--config-file", config, "--eval-only", *given, *more]
    key = "MODEL.WEIGHTS" if config.endswith((".yaml", ".yml")) else "train.init_checkpoint"
    if not any(word.startswith(f"{key}=") for word in given):
        words.append(f"{key}={checkpoint}")
    return shlex.join(words)


def markdown(
    found: Sequence[Point],
    metric: str,
    where: str,
    failed: Mapping[Acceleration, dict[str, Any]],
    skipped: Mapping[str, str],
    noise: Mapping[str, float],
) -> str:
    """The table, with what stands on the front in bold, then what failed and what was not tried."""
    dense, best = found[0], {point.setting for point in front(found)}
    lines = [
        f"{where}. Latency is that of dense ({dense.latency['model'] * 1e3:.1f} ms the model, "
        f"{dense.latency['backbone'] * 1e3:.1f} ms the backbone) over the speed-up, a median of ratios of "
        f"neighbours in time; dense against itself gave {noise['model']:.2f} and {noise['backbone']:.2f}. "
        f"Bold: nothing measured is both faster and better.",
        "",
        f"| setting | {metric} | change | model | backbone | model, ms | backbone, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for point in (dense, *sorted(found[1:], key=lambda p: p.latency["model"])):
        name = f"**{point.setting.name}**" if point.setting in best else point.setting.name
        speed = [f"{point.speed[part]:.2f}x" for part in ("model", "backbone")]
        times = [f"{point.latency[part] * 1e3:.1f}" for part in ("model", "backbone")]
        score, change = f"{point.score:.2f}", f"{point.score - dense.score:+.2f}"
        lines.append(f"| {' | '.join([name, score, change, *speed, *times])} |")
    reasons = {s.name: r["reason"] for s, r in failed.items()}
    for title, which in (("Failed", reasons), ("Not tried", dict(skipped))):
        if which:
            lines += ["", f"{title}:", *(f"- {name}: {reason}" for name, reason in which.items())]
    return "\n".join(lines) + "\n"


def plot(path: Path, found: Sequence[Point], metric: str, chosen: Point, max_loss: float) -> None:
    """The metric over the latency of the model, and of the backbone, as PNG."""
    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    dense = found[0]
    axes = figure.subplots(1, 2, sharey=True)
    for axis, part in zip(axes, ("model", "backbone"), strict=True):
        for kind, (colour, marker) in _STYLES.items():
            of_kind = [point for point in found if point.setting.kind == kind]
            x = [point.latency[part] * 1e3 for point in of_kind]
            axis.plot(x, [p.score for p in of_kind], marker, color=colour, label=kind, linestyle="none")
        line = front(found, part)
        x, y = [p.latency[part] * 1e3 for p in line], [p.score for p in line]
        axis.step(x, y, where="post", color="grey", linewidth=1, label="front", zorder=0)
        axis.axhline(dense.score - max_loss, color="grey", linestyle=":", label=f"dense - {max_loss:g}")
        here = (chosen.latency[part] * 1e3, chosen.score)
        axis.plot(*here, "o", markersize=13, fillstyle="none", color="red", label="chosen")
        axis.set(xlabel=f"latency of the {part}, ms", title=f"{metric} against latency, {part}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(metric)
    axes[1].legend(fontsize=7)
    with written_whole(path) as partial:
        figure.savefig(partial)
