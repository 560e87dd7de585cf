"""How the benchmarks compare times and take memory, each measurement in a process of its own."""

import contextlib
import ctypes
import os
import platform
import resource
import signal
import statistics
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

import torch

from itpn_d2.engine.timing import Step, synchronize
from itpn_d2.errors import UseError

T = TypeVar("T")


class MeasurementError(UseError):
    """A measurement gave no result."""


def _begin(threads: int) -> None:
    """Prepare a new process: its number of threads, and that it ends when its parent does, in whatever way; a
    training saves a checkpoint first."""
    torch.set_num_threads(threads)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()


def own_process(function: Callable[..., T], *arguments: object) -> T:
    """``function(*arguments)`` in a fresh process with this one's number of threads, so that neither compiled
    code nor peak memory comes from another measurement. It ends when this one ends, or is killed.

    Args:
        function: of a module, not a local one; its arguments and its result are pickled.

    Raises:
        MeasurementError: it raised, or its process died.
    """
    name = f"{function.__name__}({', '.join(map(str, arguments))})"
    threads = (torch.get_num_threads(),)
    with ProcessPoolExecutor(1, get_context("spawn"), _begin, threads) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            raise MeasurementError(
                f"{name}: the process ended before its result; was there enough memory?"
            ) from None
        except Exception as error:
            raise MeasurementError(f"{name}: {type(error).__name__}: {error}") from error


def compare(over: list[float], under: list[float]) -> dict[str, float]:
    """Median, smallest and largest of the ratios of each round, a pair of neighbours in time."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return {"value": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}


def resident_mib(field: str = "VmRSS") -> float:
    """What the process has in memory now (``VmRSS``), or the most it ever had (``VmHWM``).

    Linux tells it; its ``ru_maxrss`` is no substitute, since it starts at the size of the parent process.
    Elsewhere ``ru_maxrss`` is all there is, for either.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def _forget_peak() -> None:
    """Let what building a model took neither count as the peak of what follows nor hide it: pages that are
    free go back to the system, and the peak starts anew where Linux lets it."""
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(step: Step, steps: int, device: torch.device) -> float:
    """Peak memory of ``steps`` calls: on CUDA all that tensors take, weights included; on the CPU the peak
    resident set above what is resident before, so the weights and the process itself are left out.

    Only the first call in a process means anything on a CPU where the peak can't start anew: without Linux.
    """
    _forget_peak()
    before = resident_mib()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    for number in range(steps):
        step(number)
    synchronize(device)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resident_mib("VmHWM") - before
