"""The backbone by itself: speed, memory and multiply-accumulates by resolution.

Compares fused with explicit attention, dense stage 3 with token gathering, migration and both, eager with
compiled, and the trunk with networks of timm. Rows that are ratios of times come from one process per pair,
its two sides in turns on the same inputs, medians over rounds; memory comes from a process for each side.
``forward`` runs without gradients, with weights in the given type; ``training`` is forward under autocast and
backward. Trunk and pyramid together, but for the peers, which have no pyramid either.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark_clock import MeasurementError, compare, interleave, machine, own_process, peak_mib, timed
from benchmark_models import ACCELERATED, PEERS, BackboneSetting, Side, count_macs, step_for
from benchmark_plot import throughput_plot
from benchmark_table import HEADER, Measure, Results, single

MODES = {"forward": False, "training": True}
DENSE = Side()
# the paper's abstract: "accelerate the inference procedure by up to 70%"
FASTEST = 1.7
LINEAR = 1.1  # exponent of cost against pixels that counts as linear on a machine


@dataclass(frozen=True)
class Pair:
    """A ratio of the seconds of two sides."""

    measure: Measure
    over: Side
    under: Side
    size: int
    mode: str

    @property
    def key(self) -> str:
        def name(side: Side) -> str:
            marks = [m for m in ("explicit", "compiled", "trunk") if getattr(side, m)]
            return "+".join([side.model, *marks])

        return f"{name(self.over)}/{name(self.under)}/{self.mode}/{self.size}"


def attention_pairs(setting: BackboneSetting, modes: Sequence[str]) -> Iterator[Pair]:
    for size in setting.sizes:
        for mode in modes:
            text = f"{size}, {mode}: seconds with explicit float32 attention / fused"
            yield Pair(Measure(text, ">=", 1), replace(DENSE, explicit=True), DENSE, size, mode)


def acceleration_pairs(setting: BackboneSetting, modes: Sequence[str]) -> Iterator[Pair]:
    for size in setting.sizes:
        for mode in modes:
            for way in ACCELERATED:
                text = f"{size}, {mode}: seconds dense / {way}"
                goal = size == max(setting.sizes) and mode == "forward" and way == "both"
                measure = Measure(text, ">=", FASTEST) if goal else Measure(text)
                yield Pair(measure, DENSE, Side(way), size, mode)


def compile_pairs(setting: BackboneSetting, modes: Sequence[str]) -> Iterator[Pair]:
    for size in setting.sizes:
        for mode in modes:
            for way in ("dense", *ACCELERATED):
                text = f"{size}, {mode}: seconds eager / compiled, {way}"
                yield Pair(Measure(text, ">=", 1), Side(way), Side(way, compiled=True), size, mode)


def peer_pairs(setting: BackboneSetting, modes: Sequence[str]) -> Iterator[Pair]:
    for size in setting.sizes:
        for mode in modes:
            for peer in PEERS:
                text = f"{size}, {mode}: seconds {peer} / {setting.variant} without pyramid"
                yield Pair(Measure(text), Side(peer), Side(trunk=True), size, mode)


PAIRS: dict[str, Callable[[BackboneSetting, Sequence[str]], Iterator[Pair]]] = {
    "attention": attention_pairs,
    "acceleration": acceleration_pairs,
    "compile": compile_pairs,
    "peers": peer_pairs,
}
CASES = [*PAIRS, "growth", "memory", "macs"]


def measure_pair(pair: Pair, setting: BackboneSetting) -> dict[str, Any]:
    """The ratio and the seconds of every round."""
    over, under = (step_for(s, pair.size, MODES[pair.mode], setting) for s in (pair.over, pair.under))
    seconds = interleave(over, under, setting.rounds, setting.place()[0])
    return {**compare(*seconds), "seconds": seconds, **asdict(pair)}


def measure_peak(side: Side, size: int, mode: str, setting: BackboneSetting) -> float:
    """MiB of two steps, the second of which finds what the first has left."""
    return peak_mib(step_for(side, size, MODES[mode], setting), 2, setting.place()[0])


def measure_growth(way: str, setting: BackboneSetting) -> dict[str, Any]:
    """The exponent of the seconds of a forward pass in each round, all sizes in turn in one process."""
    device, _ = setting.place()
    steps = {size: step_for(Side(way), size, False, setting) for size in setting.sizes}
    for step in steps.values():
        step(0)
    numbers = range(1, setting.rounds + 1)
    rounds = [{size: timed(partial(s, n), device) for size, s in steps.items()} for n in numbers]
    found = [exponent(seconds) for seconds in rounds]
    return {"value": statistics.median(found), "low": min(found), "high": max(found), "seconds": rounds}


def attempt(function: Callable[..., Any], *arguments: object) -> Any:
    """In a process of its own; a failure is the reason why there is no result."""
    try:
        return own_process(function, *arguments)
    except MeasurementError as error:
        return {"reason": " ".join(str(error).rsplit("): ", 1)[-1].split())[:160].replace("|", "/")}


class Table:
    """Measures and their results, in order."""

    def __init__(self, setting: BackboneSetting):
        self.setting = setting
        self.measures: dict[str, Measure] = {}
        self.results: Results = {}

    def add(self, key: str, measure: Measure, found: dict[str, Any]) -> None:
        self.measures[key], self.results[key] = measure, found
        value = found.get("reason") or format(found["value"], measure.form)
        print(f"{measure.text}: {value}", flush=True)

    def add_pairs(self, case: str, modes: Sequence[str]) -> None:
        for pair in PAIRS[case](self.setting, modes):
            self.add(pair.key, pair.measure, attempt(measure_pair, pair, self.setting))

    def add_memory(self, modes: Sequence[str]) -> None:
        """Peak memory of dense with fused attention, and what the other ways need of it."""
        others = {"explicit attention": replace(DENSE, explicit=True)} | {w: Side(w) for w in ACCELERATED}
        for size in self.setting.sizes:
            for mode in modes:
                where = f"{size}, {mode}: peak memory"
                base = attempt(measure_peak, DENSE, size, mode, self.setting)
                first = base if isinstance(base, dict) else single(base)
                self.add(f"memory/dense/{mode}/{size}", Measure(f"{where}, dense, MiB", form=".0f"), first)
                for name, side in others.items():
                    peak = attempt(measure_peak, side, size, mode, self.setting)
                    found = peak if isinstance(peak, dict) else first if isinstance(base, dict) else None
                    found = found or {**single(peak / base), "mib": peak}
                    self.add(f"memory/{name}/{mode}/{size}", Measure(f"{where}, {name} / dense"), found)

    def add_macs(self) -> None:
        """Multiply-accumulates of an image, dense, and by how much the other ways have fewer."""
        for size in self.setting.sizes:
            dense = count_macs(DENSE, size, self.setting)
            found = {**single(dense / 1e9), "macs": dense}
            self.add(f"macs/dense/{size}", Measure(f"{size}: GMACs, dense", form=".1f"), found)
            for way in ACCELERATED:
                macs = count_macs(Side(way), size, self.setting)
                found = {**single(dense / macs), "macs": macs}
                self.add(f"macs/{way}/{size}", Measure(f"{size}: MACs dense / {way}"), found)

    def add_growth(self) -> None:
        """The exponent of cost against pixels: 1 is linear."""
        for way in ("dense", *ACCELERATED):
            text = f"exponent of seconds against pixels, forward, {way}"
            measure = Measure(text, "<=", LINEAR) if way == "gathering" else Measure(text)
            self.add(f"growth/seconds/{way}", measure, attempt(measure_growth, way, self.setting))
            macs = {size: count_macs(Side(way), size, self.setting) for size in self.setting.sizes}
            found = {**single(exponent(macs)), "macs": macs}
            self.add(f"growth/macs/{way}", Measure(f"exponent of MACs against pixels, {way}"), found)

    def throughput(self) -> dict[str, dict[int, float]]:
        """Images per second of a forward pass, by way and size, as far as pairs were timed.

        Dense: from all its seconds. The others: that times their ratio, since only the two sides of a pair
        were timed side by side.
        """
        dense, ratios = asdict(DENSE), dict[str, dict[int, float]]()
        seconds: dict[int, list[float]] = {}
        for found in self.results.values():
            if found.get("mode") == "forward" and found["over"] == dense:
                seconds.setdefault(found["size"], []).extend(found["seconds"][0])
                name = found["under"]["model"] + (" compiled" if found["under"]["compiled"] else "")
                ratios.setdefault(name, {})[found["size"]] = found["value"]
        base = {size: self.setting.batch / statistics.median(times) for size, times in seconds.items()}
        others = {way: {size: base[size] * r for size, r in row.items()} for way, row in ratios.items()}
        return {"dense": base, **others}


def exponent(costs: Mapping[int, float]) -> float:
    """Slope of log cost over log pixels (least squares) of costs by side of the image."""
    x = [2 * math.log(side) for side in costs]
    y = [math.log(cost) for cost in costs.values()]
    return statistics.linear_regression(x, y).slope


def markdown(table: Table) -> str:
    setting = table.setting
    device, dtype = setting.place()
    lines = [
        f"Backbone {setting.variant}, batch {setting.batch}, {str(dtype).removeprefix('torch.')}, rounds "
        f"{setting.rounds}, gathering with windows of {setting.window} and {setting.tokens} tokens, "
        f"migration keeps {setting.keep} three times, on {machine(device)}, torch {torch.__version__}.",
        "",
        *HEADER,
    ]
    lines += [measure.row(table.results[key]) for key, measure in table.measures.items()]
    return "\n".join(lines) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    default = BackboneSetting
    parser.add_argument("--variant", default=default.variant)
    parser.add_argument("--sizes", nargs="+", type=int, default=default.sizes, metavar="PIXELS")
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: its own choice")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--window", type=int, default=default.window, help="of gathering, in tokens")
    parser.add_argument("--tokens", type=int, default=default.tokens, help="gathering tokens")
    parser.add_argument("--keep", type=float, default=default.keep, help="ratio of each drop of migration")
    parser.add_argument("--backend", default=default.backend, help="of torch.compile")
    parser.add_argument("--plot", type=Path, metavar="OUT", help="throughput against resolution, as PNG")


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    if args.threads:
        torch.set_num_threads(args.threads)
    names = ("variant", "batch", "rounds", "device", "dtype", "backend", "window", "tokens", "keep")
    setting = BackboneSetting(sizes=tuple(args.sizes), **{name: getattr(args, name) for name in names})
    if len(set(setting.sizes)) < 2 and "growth" in args.cases:
        raise MeasurementError("--cases growth: an exponent needs two --sizes or more")
    table = Table(setting)
    for case in args.cases:
        if case == "memory":
            table.add_memory(args.modes)
        elif case == "macs":
            table.add_macs()
        elif case == "growth":
            table.add_growth()
        else:
            table.add_pairs(case, args.modes)
    if args.plot:
        throughput_plot(args.plot, table.throughput(), f"{setting.variant}, batch {setting.batch}, forward")
    where = machine(setting.place()[0])
    found = {
        "machine": where,
        "torch": torch.__version__,
        "setting": asdict(setting),
        "results": table.results,
    }
    return markdown(table), found
