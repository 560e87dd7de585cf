"""How the benchmarks take time and memory, and name the machine."""

import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

Step = Callable[[int], None]  # gets the number of the input to run on


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(step: Step, number: int, device: torch.device) -> float:
    """Seconds of one call of ``step``."""
    synchronize(device)
    started = time.perf_counter()
    step(number)
    synchronize(device)
    return time.perf_counter() - started


def interleave(
    first: Step, second: Step, rounds: int, device: torch.device
) -> tuple[list[float], list[float]]:
    """Seconds of both, round by round, after one warm-up of each.

    Both get the same input in a round, another one in the next; who begins alternates, so that a machine that
    slows down or speeds up favours neither.
    """
    first(0), second(0)
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(1, rounds + 1):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            times[which].append(timed((first, second)[which], number, device))
    return times


def compare(over: list[float], under: list[float]) -> dict[str, float]:
    """Median, smallest and largest of the ratios of each round, a pair of neighbours in time."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {"value": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def resident_mib() -> float:
    """What the process has in memory now; where the system does not say, the most it ever had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return peak_resident_mib()


def peak_resident_mib() -> float:
    """The largest resident set the process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def peak_mib(step: Step, steps: int, device: torch.device) -> float:
    """Peak memory of ``steps`` calls: on CUDA all that tensors take, weights included; on the CPU the peak
    resident set above what is resident before, so the weights and the process itself are left out.

    Only the first call in a process means anything on the CPU: the peak never falls.
    """
    before = resident_mib()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for number in range(steps):
        step(number)
    synchronize(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_resident_mib() - before


def machine(device: str = "auto") -> str:
    """Processor and thread count, or the GPU, in words."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    return f"{model}, {torch.get_num_threads()} threads"
