"""What the backbone benchmark measured, as Markdown and in the documentation."""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.clock import MeasurementError
from benchmarks.models import BackboneSetting, Side, Size
from benchmarks.plot import throughput_plot
from benchmarks.profile import profile_table
from benchmarks.targets import PLACES, target_rows
from itpn_d2.layers.attention_products import cpu_has
from pages import rewrite_section

TEXTS = {
    "attention": "seconds, {} float32 attention / fused",
    "acceleration": "seconds, dense / {}",
    "compile": "seconds, eager / compiled, {}",
    "peers": "seconds, {} / trunk",
    "checkpointing": "seconds, checkpointing {} / none",
    "memory": "peak MiB, {}",
    "macs": "GMACs per image, {}",
}


def cell(found: Mapping[str, Any], form: str) -> str:
    """Value and range, or why there is none."""
    if "reason" in found:
        return f"not measured: {found['reason']}"
    value, low, high = (f"{found[name]:{form}}" for name in ("value", "low", "high"))
    return value if low == high else f"{value} ({low} to {high})"


def _form(case: str) -> str:
    return {"memory": ".0f", "macs": ".1f"}.get(case, ".2f")


def matrix(results: Mapping[str, Mapping[str, Any]], mode: str) -> list[str]:
    """A table of one mode: a row a measure, a column a size."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for found in results.values():
        if found["mode"] == mode and found["size"] and found["case"] != "profile":
            row = rows.setdefault((found["case"], found["name"]), {})
            row[found["size"]] = cell(found, _form(found["case"]))
    if not rows:
        return []
    sizes = sorted({size for row in rows.values() for size in row}, key=lambda text: Size.parse(text).pixels)
    lines = [f"| {mode} | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for (case, name), row in rows.items():
        lines.append(f"| {TEXTS[case].format(name)} | {' | '.join(row.get(s, '') for s in sizes)} |")
    return [*lines, ""]


def growth(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Exponents of cost against pixels: 1 is linear."""
    found = [row for row in results.values() if row["case"] == "growth"]
    if not found:
        return []
    lines = [
        "| exponent against pixels, forward | seconds | MACs |",
        "|---|---|---|",
    ]
    lines += [f"| {row['name']} | {cell(row, '.2f')} | {row['macs']:.2f} |" for row in found]
    return [*lines, ""]


def body(found: Mapping[str, Any]) -> str:
    """All results measured on a device, without the targets."""
    setting = found["setting"]
    text = [
        f"{setting['variant']}, batch {setting['batch']}, rounds {setting['rounds']}, gathering with "
        f"{setting['window']}x{setting['window']} windows and {setting['tokens']} tokens, migration keeps "
        f"{setting['keep']} three times; {found['machine']}, torch {found['torch']}:",
        "",
        *(f"    {command}" for command in found["commands"]),
        "",
    ]
    for kind, results in found["results"].items():
        tables = [line for mode in ("forward", "training", "any") for line in matrix(results, mode)]
        text += [f"{kind}:", "", *tables, *growth(results), *profile_table(results)]
    return "\n".join(text)


def throughput(results: Mapping[str, Mapping[str, Any]], side: Side) -> dict[str, dict[Size, float]]:
    """Images per second of a forward pass by name and size, of one side and of all it was compared with.

    Its own speed is the median of all its seconds. The others': that times their ratio, since only the two
    sides of a pair were timed side by side.
    """
    own, seconds = asdict(side), dict[Size, list[float]]()
    ratios: dict[str, dict[Size, float]] = {}
    for found in results.values():
        timed = found["mode"] == "forward" and "seconds" in found
        if not timed or own not in (found["over"], found["under"]):
            continue
        is_over, size = found["over"] == own, Size.parse(found["size"])
        seconds.setdefault(size, []).extend(found["seconds"][0 if is_over else 1])
        name = found["name"] + (" compiled" if found["case"] == "compile" else "")
        ratios.setdefault(name, {})[size] = found["value"] if is_over else 1 / found["value"]
    base = {size: 1 / statistics.median(times) for size, times in seconds.items()}
    others = {name: {size: base[size] * r for size, r in row.items()} for name, row in ratios.items()}
    return {("trunk" if side.trunk else "dense"): base, **others}


def draw(path: Path, found: Mapping[str, Any]) -> None:
    """Throughput of our ways, and of the trunk beside other networks, for each type.

    Raises:
        MeasurementError: no forward pass was timed at two sizes.
    """
    setting = found["setting"]
    panels: dict[str, dict[str, dict[Size, float]]] = {}
    for kind, results in found["results"].items():
        for name, side in ((setting["variant"], Side()), ("trunk and peers", Side(trunk=True))):
            curves = throughput(results, side)
            scaled = {n: {s: v * setting["batch"] for s, v in row.items()} for n, row in curves.items()}
            panels[f"{name}, {kind}"] = scaled
    throughput_plot(path, panels, f"forward, batch {setting['batch']}, {found['machine']}")


def place_name(setting: BackboneSetting) -> str:
    """A key of :data:`~benchmarks.targets.PLACES`: where, and with which handling of memory, a setting
    measures."""
    device = setting.place()[0].type
    if device != "cpu":
        return device
    return "cpu" + "_amx" * cpu_has("amx_tile") + "_kept" * setting.kept_memory


def measured_file(docs: Path, place: str) -> Path:
    """Where the documentation keeps what was measured at one of :data:`~benchmarks.targets.PLACES`."""
    return docs / "measured" / f"backbone_{place}.json"


def update_docs(docs: Path) -> None:
    """Write the section of ``benchmarks.md`` and its pictures anew, from what was measured at all places.

    Raises:
        UseError: there is no such file, a half of its section's marks is missing, or nothing was measured.
    """
    page = docs / "benchmarks.md"
    found = {k: json.loads(p.read_text()) for k in PLACES if (p := measured_file(docs, k)).is_file()}
    if not page.is_file() or not found:
        raise MeasurementError(f"--docs {docs}: {page} must exist, and something must have been measured")
    lines = [
        "## Backbone",
        "",
        "`python tools/benchmark.py backbone --docs docs` wrote this section.",
    ]
    lines += ["Medians; in parentheses the smallest and the largest of the rounds.", ""]
    lines += [*target_rows({k: f for k, f in found.items() if f["targets"]}), ""]
    for place, content in found.items():
        picture = docs / "images" / f"backbone_{place}.png"
        lines += [f"### {PLACES[place]}", "", body(content)]
        try:
            draw(picture, content)
            lines += [f"![throughput against resolution](images/{picture.name})", ""]
        except MeasurementError:  # a run of other cases, or of one size
            picture.unlink(missing_ok=True)
    rewrite_section(page, "backbone", "\n".join(lines))


def described(setting: BackboneSetting) -> dict[str, Any]:
    """A setting as JSON has it, without what each row tells itself: the type and the size of its images."""
    content = {name: value for name, value in asdict(setting).items() if name not in ("dtype", "sizes")}
    return {**content, "growth": [str(Size(*size)) for size in content["growth"]]}
