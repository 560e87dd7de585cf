"""What the backbone benchmark should reach, on a CPU and on a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.models import BackboneSetting
from benchmarks.table import SIGNS

VARIANT = "fast_itpn_base"
# where is measured; a CPU with AMX multiplies bfloat16 matrices so much faster that its ratios are others
PLACES = {
    "cpu": "CPU",
    "cpu_kept": "CPU, freed memory kept",
    "cpu_amx": "CPU with AMX",
    "cpu_amx_kept": "CPU with AMX, freed memory kept",
    "cuda": "GPU",
}
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
    """The table: a column each CPU place that has something, and one for the GPU.

    Args:
        found: by key of :data:`PLACES` what was measured there: ``results`` by type of floating-point numbers
            and key.
    """
    cpus = [place for place in PLACES if place != "cuda" and place in found] or ["cpu"]
    names = ["ratio", "CPU target", *(PLACES[place] for place in cpus), "GPU target, bf16", PLACES["cuda"]]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for target in TARGETS:
        cells = [target.text]
        for device, places in (("cpu", cpus), ("cuda", ["cuda"])):
            limit = target.limit(device)
            cells.append("" if limit is None else f"{target.sign} {limit:g}")
            for place in places:
                kinds: Mapping[str, Found] = found.get(place, {}).get("results", {})
                verdicts = [
                    f"{kind}: {target.verdict(results, device)}"
                    for kind, results in kinds.items()
                    if device == "cpu" or kind == "bf16"
                ]
                cells.append("; ".join(verdicts) or "not measured")
        lines.append(f"| {' | '.join(cells)} |")
    return lines
