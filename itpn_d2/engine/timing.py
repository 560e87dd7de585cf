"""Seconds of calls, taken in turns so that a drifting clock favours none, and the machine in words."""

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

Step = Callable[[int], None]  # gets the number of the input to run on


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU still computes; other devices have nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call."""
    synchronize(device)
    started = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - started


def interleave(
    first: Step, second: Step, rounds: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Seconds of both, round by round, after one warm-up of each.

    Both get the same input in a round, another one in the next; who begins alternates, so that a machine that
    slows down or speeds up favours neither.
    """
    for step in (first, second):
        step(0)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(1, rounds + 1):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            times[which].append(timed(partial((first, second)[which], number), device))
    return times


def machine(device: torch.device) -> str:
    """The GPU or the processor in words, and torch's number of threads."""
    if device.type == "cuda":
        model = torch.cuda.get_device_name(device)
    else:
        cpuinfo = Path("/proc/cpuinfo")
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        model = next(names, platform.processor() or platform.machine())
    threads = torch.get_num_threads()
    return f"{model}, {threads} thread{'s' if threads > 1 else ''}"
