"""Where the seconds of a step go, by kind of operation."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from itpn_d2.engine.timing import Step

# the first pattern that an operator's name has
KINDS = {
    "products": r"addmm|mm$|bmm|gemm|linear|convolution",
    "fused attention": r"scaled_dot_product|flash|efficient_attention",
    "softmax": r"softmax",
    "norms": r"norm",
    "activations": r"gelu|silu|relu|sigmoid|tanh",
    "copies": r"copy|cat$|stack|gather|index|scatter|contiguous|clone|fill|zero|pad",
}
OTHER = "other"


def kind_of(operator: str) -> str:
    """The kind of an operator of torch, ``aten::addmm``, or of a kernel, by its name."""
    found = (kind for kind, pattern in KINDS.items() if re.search(pattern, operator.lower()))
    return next(found, OTHER)


def shares(events: Iterable[FunctionEventAvg], device: torch.device) -> dict[str, float]:
    """Parts of the whole time by kind, which sum to 1; each operator without those that it calls."""
    seconds = dict.fromkeys([*KINDS, OTHER], 0.0)
    for event in events:
        on_device = device.type == "cuda"
        spent: float = event.self_device_time_total if on_device else event.self_cpu_time_total
        seconds[kind_of(event.key or "")] += spent
    total = sum(seconds.values())
    return {kind: spent / total for kind, spent in seconds.items()}


def profiled(step: Step, rounds: int, device: torch.device) -> dict[str, float]:
    """:func:`shares` of ``rounds`` steps, after one to warm up."""
    step(0)
    activities = [ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU]
    with profile(activities=activities) as seen:
        for number in range(1, rounds + 1):
            step(number)
        if device.type == "cuda":
            torch.cuda.synchronize()
    return shares(seen.key_averages(), device)


def profile_table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row a profiled side: percentages by kind."""
    rows = [found for found in results.values() if found["case"] == "profile"]
    if not rows:
        return []
    kinds = [*KINDS, OTHER]
    lines = [f"| % of the seconds | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for row in rows:
        name = f"{row['name']}, {row['mode']}, {row['size']}"
        if "reason" in row:
            lines.append(f"| {name} | not measured: {row['reason']} |" + " |" * (len(kinds) - 1))
        else:
            percent = [f"{100 * row['shares'][kind]:.0f}" for kind in kinds]
            lines.append(f"| {name} | {' | '.join(percent)} |")
    return [*lines, ""]
