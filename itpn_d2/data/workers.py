"""The processes that load data for a process of a run."""

import multiprocessing
import signal
import sys
from functools import cache
from multiprocessing import util
from typing import Any

import cv2
import torch

from ..signals import REQUESTS


def worker_options(num_workers: int, persistent: bool = True) -> dict[str, Any]:
    """The arguments of a ``DataLoader`` that concern its workers.

    On Linux they are forked, in every process. Those of a process that was itself spawned, as the processes
    of ``--num-gpus`` and ``--num-processes`` are, would be spawned as well by default: each would import
    everything anew, and hold it in memory of its own.

    Args:
        persistent: they wait for the next pass over the data instead of ending with the first.
    """
    if num_workers == 0:
        return {"num_workers": 0}
    prepare_for_workers()
    return {
        "num_workers": num_workers,
        "worker_init_fn": start_worker,
        "persistent_workers": persistent,
        "multiprocessing_context": "fork" if sys.platform == "linux" else None,
    }


def start_worker(worker: int) -> None:
    """``worker_init_fn`` of every loader: workers share the cores, and leave signals to the main process.

    A terminal, systemd or Slurm signals the whole process group. Workers that died of it would end the run in
    the middle of an iteration, before the main process has saved its checkpoint; they end with it anyway.
    """
    torch.set_num_threads(1)
    for number in REQUESTS:
        signal.signal(number, signal.SIG_IGN)


@cache
def prepare_for_workers() -> None:
    """What a process with workers needs, before the first is forked.

    It kills them when it ends: multiprocessing would ask them by SIGTERM, and wait for ever for workers that
    leave signals to this process. OpenCV gets along with one thread, also in the workers: a fork has none of
    the threads of OpenCV's pool, and would wait for ever for them.
    """
    cv2.setNumThreads(1)
    util.Finalize(None, _kill_workers, exitpriority=100)


def _kill_workers() -> None:
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
