"""What masked image modelling saves: ratios of steps of configs/Pretrain, and how they compile.

The two sides of a ratio of times run in turns in one process, so that a machine that slows down favours
neither; the two sides of a ratio of memory have a process each, because a peak never falls. A step is forward
and backward, without optimizer. Memory is what steps add to the model on the CPU, weights included on CUDA.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases import Setting, distillation, fastmim, pixel_mim, step_of
from benchmarks.clock import compare, own_process, peak_mib
from benchmarks.table import HEADER, Measure, Results, single
from itpn_d2.engine.precision import autocast
from itpn_d2.engine.timing import Step, interleave, machine

MEASURES = {
    "drop": Measure("pixel MIM, trunk and pyramid: seconds with 75% of patches dropped / none", "<=", 0.40),
    "drop_decoder": Measure("pixel MIM, with fusion and decoder: seconds with 75% dropped / none"),
    "fastmim_speed": Measure("FastMIM: images/s with HOG at 128 pixels / pixels at 224", ">=", 3.0),
    "fastmim_memory": Measure(
        "FastMIM: peak memory of steps with HOG at 128 pixels / pixels at 224", "<=", 0.45
    ),
    "hog_share": Measure("FastMIM: share of HOG in a step at 128 pixels", "<", 0.03, ".1%"),
    "graph_breaks": Measure("feature distillation, compiled: graph breaks", "=", 0, ".0f"),
    "compile_speed": Measure("feature distillation: eager seconds / compiled seconds"),
    "compile_difference": Measure(
        "feature distillation: largest difference of eager and compiled losses", form=".1e"
    ),
}


def ratio(over: Step, under: Step, setting: Setting) -> dict[str, Any]:
    """Ratio of the seconds of two steps, with those of every round."""
    seconds = interleave(over, under, setting.rounds, setting.place()[0])
    return {**compare(*seconds), "seconds": seconds}


def measure_drop(setting: Setting) -> Results:
    """Dropping patches, without and with the part that works on all patches again."""
    return {
        "drop": ratio(*pixel_mim(setting, decoder=False), setting),
        "drop_decoder": ratio(*pixel_mim(setting, decoder=True), setting),
    }


def measure_fastmim_speed(setting: Setting) -> Results:
    """Images per second: the ratio of seconds upside down."""
    steps = {target: fastmim(setting, target)[2] for target in ("hog", "pixels")}
    return {"fastmim_speed": ratio(steps["pixels"], steps["hog"], setting)}


def fastmim_peak(setting: Setting, target: str) -> float:
    """MiB of two steps, the second of which finds what the first has left."""
    return peak_mib(fastmim(setting, target)[2], 2, setting.place()[0])


def measure_fastmim(setting: Setting) -> Results:
    """Speed in one process, memory in two."""
    peaks = {target: own_process(fastmim_peak, setting, target) for target in ("hog", "pixels")}
    memory = {**single(peaks["hog"] / peaks["pixels"]), "mib": peaks}
    return {**own_process(measure_fastmim_speed, setting), "fastmim_memory": memory}


def measure_hog(setting: Setting) -> Results:
    """Extraction alone against the whole step, extraction included."""
    method, batches, step = fastmim(setting, "hog")
    images = [method.normalise(x) for x in batches]

    def extract(number: int) -> None:
        method.target.tokens(images[number % len(images)], method.encoder.stride)

    return {"hog_share": ratio(extract, step, setting)}


def measure_compile(setting: Setting) -> Results:
    """Graph breaks of forward and loss; then, if the backend can compile, speed and equality with eager."""
    method, batches = distillation(setting)
    device, dtype = setting.place()

    def loss_of(run: Callable[..., dict[str, Tensor]]) -> Callable[[int], Tensor]:
        return lambda number: run(batches[number])["loss_features"]

    eager, compiled = loss_of(method), loss_of(torch.compile(method, backend=setting.backend))
    with autocast(device, dtype):
        breaks = torch._dynamo.explain(method)(batches[0]).graph_break_count
    results = {"graph_breaks": single(breaks)}
    torch._dynamo.reset()
    try:
        steps = step_of(method, eager, setting), step_of(method, compiled, setting)
        results["compile_speed"] = ratio(*steps, setting)
        with autocast(device, dtype):
            apart = [(eager(n) - compiled(n)).abs().item() for n in range(len(batches))]
        results["compile_difference"] = {**single(max(apart)), "differences": apart}
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(getattr(error, "inner_exception", error)).splitlines()[0]
        results["compile_speed"] = results["compile_difference"] = {"reason": reason}
    return results


CASES: dict[str, Callable[[Setting], Results]] = {
    "drop": partial(own_process, measure_drop),
    "fastmim": measure_fastmim,
    "hog": partial(own_process, measure_hog),
    "compile": partial(own_process, measure_compile),
}


def markdown(results: Results, setting: Setting) -> str:
    """The table, in the order of :data:`MEASURES`."""
    device, dtype = setting.place()
    precision = str(dtype).removeprefix("torch.")
    lines = [
        f"Pre-training step of {setting.variant}, batch {setting.batch}, {precision}, "
        f"rounds {setting.rounds}, on {machine(device)}, torch {torch.__version__}.",
        "",
        *HEADER,
    ]
    lines += [measure.row(results[name]) for name, measure in MEASURES.items() if name in results]
    return "\n".join(lines) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", default=Setting.variant)
    parser.add_argument("--dtype", default="auto", help="auto, bf16, fp16 or fp32")
    parser.add_argument("--batch", type=int, default=Setting.batch)
    parser.add_argument("--rounds", type=int, default=Setting.rounds)
    parser.add_argument("--threads", type=int, default=0, help="number of torch threads; 0: torch decides")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))


def measure(cases: Sequence[str], setting: Setting) -> Results:
    """All results of the chosen cases."""
    results: Results = {}
    for name in cases:
        print(f"{name} ...", flush=True)
        results.update(CASES[name](setting))
    return results


def run(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The table, and all that was measured."""
    if args.threads:
        torch.set_num_threads(args.threads)
    setting = Setting(args.variant, args.batch, args.rounds, args.device, args.dtype)
    results = measure(args.cases, setting)
    where = machine(setting.place()[0])
    found = {"machine": where, "torch": torch.__version__, "setting": asdict(setting), "results": results}
    return markdown(results, setting), found
