"""What the backbone benchmark should reach, on a CPU and on a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmark_models import BackboneSetting
from benchmark_table import SIGNS

VARIANT = "fast_itpn_base"
Found = Mapping[str, Mapping[str, Any]]  # results by key


@dataclass(frozen=True)
class Target:
    """A line of the table of targets.

    Attributes:
        key: of the result; or two, whose ratio it is.
        cpu, cuda: the limit there; None where there is none. On CUDA it is for bfloat16.
    """

    text: str
    key: str | tuple[str, str]
    sign: str
    cpu: float | None
    cuda: float | None

    def limit(self, device: str) -> float | None:
        return self.cuda if device == "cuda" else self.cpu

    def value(self, results: Found) -> float | None:
        """The figure, or None where it was not measured."""
        keys = (self.key,) if isinstance(self.key, str) else self.key
        rows = [results.get(key, {}) for key in keys]
        if any("value" not in row for row in rows):
            return None
        return rows[0]["value"] if len(rows) == 1 else rows[0]["value"] / rows[1]["value"]

    def verdict(self, results: Found, device: str) -> str:
        """``1.62, met``, ``1.41, missed`` or ``not measured``."""
        value, limit = self.value(results), self.limit(device)
        if value is None:
            return "not measured"
        if limit is None:
            return f"{value:.2f}"
        return f"{value:.2f}, {'met' if SIGNS[self.sign](value, limit) else 'missed'}"


TARGETS = (
    Target(
        "seconds, explicit float32 attention / dense, 1024", "attention/explicit/forward/1024", ">=", 1.5, 3
    ),
    Target(
        "peak memory, dense / explicit float32 attention, 1024",
        ("memory/dense/forward/1024", "memory/explicit/forward/1024"),
        "<=",
        0.5,
        0.3,
    ),
    Target(
        "seconds, dense / gathering (16x16 windows, 4 tokens), 1024",
        "acceleration/gathering/forward/1024",
        ">=",
        1.7,
        1.5,
    ),
    Target(
        "seconds, dense / migration (.7, .49, .34 of the tokens), 1024",
        "acceleration/migration/forward/1024",
        ">=",
        1.45,
        1.4,
    ),
    Target("seconds, dense / both, 1024", "acceleration/both/forward/1024", ">=", 2.5, 2),
    Target("seconds, eager / compiled, training step, 512", "compile/dense/training/512", ">=", None, 1.3),
    Target("exponent of seconds against pixels, gathering", "growth/gathering", "<=", 1.1, 1.1),
)


def applies(setting: BackboneSetting) -> bool:
    """Whether it is what the targets are for."""
    return (setting.variant, setting.window, setting.tokens, setting.keep) == (VARIANT, 16, 4, 0.7)


def target_rows(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The table.

    Args:
        found: by place, ``cpu``, ``cpu_kept`` (freed memory stays with the process) and ``cuda``, what was
            measured there, or nothing: ``results`` by type of floating-point numbers and key.
    """
    lines = [
        "| ratio | CPU target | CPU | CPU, freed memory kept | GPU target, bf16 | GPU |",
        "|---|---|---|---|---|---|",
    ]
    for target in TARGETS:
        cells = [target.text]
        for device in ("cpu", "cpu_kept", "cuda"):
            limit = target.limit(device)
            kinds = found.get(device, {}).get("results", {})
            kinds = {k: r for k, r in kinds.items() if device != "cuda" or k == "bf16"}
            verdicts = [f"{kind}: {target.verdict(results, device)}" for kind, results in kinds.items()]
            if device != "cpu_kept":
                cells += ["" if limit is None else f"{target.sign} {limit:g}"]
            cells += ["; ".join(verdicts) or "not measured"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
