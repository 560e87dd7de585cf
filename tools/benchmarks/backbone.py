"""The backbone by itself: speed, memory and multiply-accumulates by resolution.

Compares fused with explicit attention, dense stage 3 with token gathering, migration and both, eager with
compiled, activation checkpointing with none, and the trunk with networks of timm. Ratios of times come from
one process per pair, its two sides in turns on the same inputs, medians over rounds; memory and profiles come
from a process for each side. ``forward`` runs without gradients, with weights in the given type; ``training``
is forward under autocast and backward. Trunk and pyramid together, except for the peers, which have no
pyramid either.

``--docs docs`` keeps the figures in docs/measured and writes the section of docs/benchmarks.md with its
pictures from what was measured there on all devices; ``--cases`` without any only writes. ``--resume`` goes
on with the JSON of an earlier call.
"""

import argparse
import json
import math
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.clock import MeasurementError, compare, own_process, peak_mib
from benchmarks.docs import body, cell, described, draw, measured_file, place_name, update_docs
from benchmarks.models import ACCELERATED, PEERS, BackboneSetting, Side, Size, count_macs, step_for
from benchmarks.profile import profiled
from benchmarks.table import single
from benchmarks.targets import applies, target_rows
from itpn_d2.engine import keep_freed_memory
from itpn_d2.engine.timing import interleave, machine, timed
from itpn_d2.files import write_json

MODES = {"forward": False, "training": True}
DTYPES = ("fp32", "bf16")
DENSE = Side()
EXPLICIT = replace(DENSE, explicit=True)
TRUNK = Side(trunk=True)
# ways to train with less memory
CHECKPOINTING = (
    "stage3/2",
    "stage3",
    "stage3,keep_attention",
    "stage1,stage2,pyramid",
    "all",
    "all,keep_attention",
)


@dataclass(frozen=True)
class Pair:
    """A ratio of the seconds of two sides."""

    case: str
    name: str
    over: Side
    under: Side
    size: Size
    mode: str

    @property
    def key(self) -> str:
        return f"{self.case}/{self.name}/{self.mode}/{self.size}"


def attention_pairs(size: Size, mode: str) -> Iterator[Pair]:
    yield Pair("attention", "explicit", EXPLICIT, DENSE, size, mode)


def acceleration_pairs(size: Size, mode: str) -> Iterator[Pair]:
    for way in ACCELERATED:
        yield Pair("acceleration", way, DENSE, Side(way), size, mode)


def compile_pairs(size: Size, mode: str) -> Iterator[Pair]:
    for way in ("dense", *ACCELERATED):
        yield Pair("compile", way, Side(way), Side(way, compiled=True), size, mode)


def peer_pairs(size: Size, mode: str) -> Iterator[Pair]:
    for peer in PEERS:
        yield Pair("peers", peer, Side(peer), TRUNK, size, mode)


def checkpointing_pairs(size: Size, mode: str) -> Iterator[Pair]:
    if mode == "training":
        for spec in CHECKPOINTING:
            yield Pair("checkpointing", spec, Side(checkpointing=spec), DENSE, size, mode)


PAIRS: dict[str, Callable[[Size, str], Iterator[Pair]]] = {
    "attention": attention_pairs,
    "acceleration": acceleration_pairs,
    "compile": compile_pairs,
    "peers": peer_pairs,
    "checkpointing": checkpointing_pairs,
}
# what memory and multiply-accumulates are asked of; the second where peers are
SIDES = {"dense": DENSE, **{way: Side(way) for way in ACCELERATED}}
PEER_SIDES = {"trunk": TRUNK, **{peer: Side(peer) for peer in PEERS}}
WAYS = (*ACCELERATED, "dense")  # what takes longest comes last
CASES = [*PAIRS, "growth", "memory", "macs", "profile"]


def measure_pair(pair: Pair, setting: BackboneSetting) -> dict[str, Any]:
    """The ratio and the seconds of every round."""
    over, under = (step_for(s, pair.size, MODES[pair.mode], setting) for s in (pair.over, pair.under))
    seconds = interleave(over, under, setting.rounds, setting.place()[0])
    return {**compare(*seconds), "seconds": seconds}


def measure_peak(side: Side, size: Size, mode: str, setting: BackboneSetting) -> dict[str, Any]:
    """MiB of two steps, the second of which finds what the first has left."""
    return single(peak_mib(step_for(side, size, MODES[mode], setting), 2, setting.place()[0]))


def measure_profile(side: Side, size: Size, mode: str, setting: BackboneSetting) -> dict[str, Any]:
    """Parts of the seconds by kind of operation; the value is that of the matrix products and attention."""
    device, _ = setting.place()
    found = profiled(step_for(side, size, MODES[mode], setting), setting.rounds, device)
    return {**single(found["products"] + found["fused attention"]), "shares": found}


def measure_growth(way: str, setting: BackboneSetting) -> dict[str, Any]:
    """The exponent of the seconds of a forward pass in each round, all sizes in turn in one process, and that
    of multiply-accumulates."""
    device, _ = setting.place()
    steps = {size: step_for(Side(way), size, False, setting) for size in setting.growth}
    for step in steps.values():
        step(0)
    numbers = range(1, setting.rounds + 1)
    rounds = [{size: timed(partial(s, n), device) for size, s in steps.items()} for n in numbers]
    found = [exponent(seconds) for seconds in rounds]
    macs = exponent({size: count_macs(Side(way), size, setting) for size in setting.growth})
    seconds = [{str(size): time for size, time in row.items()} for row in rounds]
    range_ = {"value": statistics.median(found), "low": min(found), "high": max(found)}
    return {**range_, "macs": macs, "seconds": seconds}


def with_memory(function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``, with memory handled as the last of them, the setting, says."""
    if arguments[-1].kept_memory:
        keep_freed_memory()
    return function(*arguments)


def attempt(function: Callable[..., Any], *arguments: object) -> Any:
    """In a process of its own; a failure is the reason why there is no result."""
    try:
        return own_process(with_memory, function, *arguments)
    except MeasurementError as error:
        return {"reason": " ".join(str(error).rsplit("): ", 1)[-1].split())[:160].replace("|", "/")}


def count(side: Side, size: Size, setting: BackboneSetting) -> dict[str, Any]:
    """GMACs of an image; nothing is computed, so that it needs no process of its own."""
    try:
        return single(count_macs(side, size, setting) / 1e9)
    except Exception as error:  # of a network of timm that can't take the size
        return {"reason": " ".join(f"{type(error).__name__}: {error}".split())[:160].replace("|", "/")}


def exponent(costs: Mapping[Size, float]) -> float:
    """Slope of log cost over log pixels (least squares)."""
    x = [math.log(size.padded.pixels) for size in costs]
    y = [math.log(cost) for cost in costs.values()]
    return statistics.linear_regression(x, y).slope


class Table:
    """Results by type of floating-point numbers and key, in a file that is never behind.

    Args:
        path: of the JSON, or None.
        resume: keep what it has of the same setting on the same machine, except failures.

    Raises:
        MeasurementError: it is of another setting or machine.
    """

    def __init__(self, setting: BackboneSetting, path: Path | None = None, resume: bool = False):
        self.setting, self.path = setting, path
        self.results: dict[str, dict[str, dict[str, Any]]] = {}
        device, _ = setting.place()
        self.head: dict[str, Any] = {
            "machine": machine(device),
            "device": device.type,
            "torch": torch.__version__,
            "setting": described(setting),
            "targets": applies(setting),
            "commands": [shlex.join(["python", *sys.argv])],
        }
        if resume and path is not None and path.is_file():
            found = json.loads(path.read_text())
            for name in ("machine", "torch", "setting"):
                if found[name] != self.head[name]:
                    raise MeasurementError(
                        f"--resume: {path} has {name} {found[name]}, here it is {self.head[name]}"
                    )
            self.results = found["results"]
            self.head["commands"] = list(dict.fromkeys([*found["commands"], *self.head["commands"]]))

    def content(self) -> dict[str, Any]:
        return {**self.head, "results": self.results}

    def measure(self, dtype: str, row: Pair, function: Callable[..., Any], *arguments: object) -> None:
        """Run a measurement in a process of its own, unless it is done; its row tells what it is."""
        results = self.results.setdefault(dtype, {})
        if "value" in results.get(row.key, {}):
            return
        setting = replace(self.setting, dtype=dtype)
        named = {**asdict(row), "size": str(row.size) if row.size.pixels else ""}
        found = function(*arguments, setting) if function is count else attempt(function, *arguments, setting)
        results[row.key] = {**found, **named}
        if self.path is not None:
            write_json(self.path, self.content())
        print(f"{dtype} {row.key}: {cell(results[row.key], '.2f')}", flush=True)

    def add_pairs(self, case: str, dtype: str, modes: Sequence[str]) -> None:
        for size in self.setting.sizes:
            for mode in modes:
                for pair in PAIRS[case](size, mode):
                    self.measure(dtype, pair, measure_pair, pair)
                    if case == "checkpointing":
                        for name, side in ((pair.name, pair.over), ("none", pair.under)):
                            row = Pair("memory", f"checkpointing {name}", side, side, size, mode)
                            self.measure(dtype, row, measure_peak, side, size, mode)

    def add_memory(self, dtype: str, modes: Sequence[str], sides: Mapping[str, Side] = SIDES) -> None:
        """Peak memory of every side, and of explicit attention."""
        for size in self.setting.sizes:
            for mode in modes:
                for name, side in {"explicit": EXPLICIT, **sides}.items():
                    row = Pair("memory", name, side, side, size, mode)
                    self.measure(dtype, row, measure_peak, side, size, mode)

    def add_profile(self, dtype: str, modes: Sequence[str]) -> None:
        """Where the time of every side goes, and that of explicit attention."""
        for size in self.setting.sizes:
            for mode in modes:
                for name, side in {"explicit": EXPLICIT, **SIDES}.items():
                    row = Pair("profile", name, side, side, size, mode)
                    self.measure(dtype, row, measure_profile, side, size, mode)

    def add_macs(self, dtype: str, sides: Mapping[str, Side] = SIDES) -> None:
        """Multiply-accumulates of every side; they do not depend on the type."""
        for size in self.setting.sizes:
            for name, side in sides.items():
                row = Pair("macs", name, side, side, size, "any")
                self.measure(dtype, row, count, side, size)

    def add_growth(self, dtype: str, ways: Sequence[str] = WAYS) -> None:
        """The exponent of cost against pixels: 1 is linear."""
        for way in ways:
            row = Growth("growth", way, Side(way), Side(way), Size(0, 0), "growth")
            self.measure(dtype, row, measure_growth, way)


class Growth(Pair):
    """A row of no single size."""

    @property
    def key(self) -> str:
        return f"growth/{self.name}"


def add_options(parser: argparse.ArgumentParser) -> None:
    default = BackboneSetting
    parser.add_argument("--variant", default=default.variant)
    parser.add_argument("--sizes", nargs="+", type=Size.parse, default=default.sizes, metavar="PIXELS")
    parser.add_argument(
        "--growth-sizes", nargs="+", type=Size.parse, default=default.growth, metavar="PIXELS"
    )
    parser.add_argument("--dtypes", nargs="+", choices=("fp32", "bf16", "fp16"), default=DTYPES)
    parser.add_argument("--batch", type=int, default=default.batch)
    parser.add_argument("--rounds", type=int, default=default.rounds)
    parser.add_argument("--threads", type=int, default=0, help="number of torch threads; 0: torch decides")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=WAYS, help="variants whose growth is measured"
    )
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument(
        "--window", type=int, default=default.window, help="side of the gathering windows, in tokens"
    )
    parser.add_argument("--tokens", type=int, default=default.tokens, help="number of gathering tokens")
    parser.add_argument(
        "--keep", type=float, default=default.keep, help="keep ratio of each drop of migration"
    )
    parser.add_argument("--backend", default=default.backend, help="backend of torch.compile")
    parser.add_argument(
        "--kept-memory", action="store_true", help="on a CPU, do not return freed memory to the system"
    )
    parser.add_argument("--resume", action="store_true", help="skip what the JSON file already contains")
    parser.add_argument(
        "--plot", type=Path, metavar="OUT", help="also plot throughput against resolution, as PNG"
    )
    parser.add_argument(
        "--docs", type=Path, metavar="FOLDER", help="documentation folder whose tables are updated"
    )


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The tables, and all that was measured."""
    if args.threads:
        torch.set_num_threads(args.threads)
    names = ("variant", "batch", "rounds", "device", "backend", "window", "tokens", "keep", "kept_memory")
    setting = BackboneSetting(
        sizes=tuple(args.sizes),
        growth=tuple(args.growth_sizes),
        **{name: getattr(args, name) for name in names},
    )
    if len(set(setting.growth)) < 2 and "growth" in args.cases:
        raise MeasurementError("--cases growth: an exponent needs at least two --growth-sizes")
    path = args.json
    if args.docs:
        path = measured_file(args.docs, place_name(setting))
    if args.docs and not args.cases:  # nothing to measure here
        update_docs(args.docs)
        return f"{args.docs / 'benchmarks.md'}: written\n", {}
    table = Table(setting, path, args.resume)
    sides = {**SIDES, **(PEER_SIDES if "peers" in args.cases else {})}
    for dtype in args.dtypes:
        for case in args.cases:
            if case == "memory":
                table.add_memory(dtype, args.modes, sides)
            elif case == "growth":
                table.add_growth(dtype, args.ways)
            elif case == "profile":
                table.add_profile(dtype, args.modes)
            elif case == "macs":
                if dtype == args.dtypes[0]:
                    table.add_macs(dtype, sides)
            else:
                table.add_pairs(case, dtype, args.modes)
    found = table.content()
    if args.plot:
        draw(args.plot, found)
    if args.docs:
        update_docs(args.docs)
    targets = target_rows({place_name(setting): found}) if found["targets"] else []
    return "\n".join([body(found), *targets, ""]), found
