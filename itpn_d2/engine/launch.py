"""One process or many: torchrun or Slurm, Detectron2's launcher for GPUs, or gloo processes on the CPU.

Detectron2 0.6 can only start processes on GPUs; on the CPU and on a cluster this module sets up what
``detectron2.utils.comm`` expects, in 0.6 as in later versions.
"""

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import launch as launch_gpus
from detectron2.utils import comm
from torch.distributed.elastic.multiprocessing.errors import record

from ..errors import ConfigError
from ..signals import REQUESTS
from . import cluster
from .failures import Reporting, first_failure
from .timeouts import PATIENCE

_Main = Callable[..., Any]


def launch(
    main: _Main,
    num_gpus: int = 0,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    args: tuple[Any, ...] = (),
    device: str | None = None,
    num_processes: int | None = None,
) -> Any:
    """Run ``main(*args)`` in as many processes as asked for; in one process its result is returned.

    Under torchrun and srun their environment decides and the counts given here are not read.

    Args:
        num_gpus: GPU processes of each machine (0 or 1 on one machine: this process).
        num_processes: CPU processes of each machine, joined by gloo; not together with ``num_gpus``.
        dist_url: ``tcp://HOST:PORT`` of the first machine; ``auto`` is a free port of this one.
        device: ``cpu`` keeps torchrun's processes off CUDA; otherwise CUDA is used where there is any.

    Raises:
        ConfigError: the counts contradict each other or the hardware.
        Exception: what the first process to fail raised; a :class:`ChildTraceback` as its cause shows where.
    """
    place = cluster.place()
    if place is not None:
        return record(_join)(main, args, device, place)
    processes = 1 if num_processes is None else num_processes
    _check(num_gpus, num_machines, machine_rank, dist_url, processes, device)
    if num_gpus * num_machines > 1:
        with first_failure() as reports, _passing_signals_on():
            launch_gpus(
                Reporting(main, reports), num_gpus, num_machines, machine_rank, dist_url, args, PATIENCE
            )
        return None
    if processes * num_machines == 1:
        return main(*args)
    # This process keeps the meeting point of "auto": no port is free at one moment and taken at the next.
    meeting = dist.TCPStore("127.0.0.1", 0, None, True, PATIENCE, False) if dist_url == "auto" else None
    address = dist_url if meeting is None else meeting.port
    threads = max(1, torch.get_num_threads() // processes)
    with first_failure() as reports, _passing_signals_on():
        worker_args = (main, args, processes, num_machines, machine_rank, address, threads)
        with _no_cuda():
            context = mp.start_processes(
                Reporting(_cpu_worker, reports), worker_args, processes, join=False, start_method="spawn"
            )
        while not context.join():
            pass
    return None


def _check(
    num_gpus: int, num_machines: int, machine_rank: int, dist_url: str, processes: int, device: str | None
) -> None:
    if num_gpus < 0 or num_machines < 1 or processes < 1:
        raise ConfigError(
            f"num_gpus={num_gpus}, num_machines={num_machines}, num_processes={processes}: give at least "
            "1 machine and process, and 0 or more GPUs"
        )
    if not 0 <= machine_rank < num_machines:
        raise ConfigError(f"machine_rank={machine_rank} with num_machines={num_machines}: ranks start at 0")
    if num_machines > 1 and dist_url == "auto":
        raise ConfigError(
            f"num_machines={num_machines} needs --dist-url tcp://HOST:PORT of the first machine"
        )
    if num_gpus and processes > 1:
        raise ConfigError(
            f"num_gpus={num_gpus} with num_processes={processes}: each GPU gets one process, so give only "
            "one of the two"
        )
    if num_gpus and device == "cpu":
        raise ConfigError(f"num_gpus={num_gpus} with device=cpu: give num_processes instead")
    if num_gpus > torch.cuda.device_count():
        raise ConfigError(
            f"num_gpus={num_gpus}, but this machine has {torch.cuda.device_count()} (torch "
            f"{torch.__version__}); num_gpus=0 runs on the CPU"
        )


@contextmanager
def _no_cuda() -> Iterator[None]:
    """Processes started inside see no GPU: several on the CPU must not all take the first one."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    os.environ[name] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _passing_signals_on() -> Iterator[None]:
    """Within it, this process hands requests to stop to the processes it has started and waits for them:
    they save a checkpoint, and its own end would interrupt that.

    Processes that a signal to the whole group has reached already take the second one for the same request.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pass_on(number: int, frame: Any) -> None:
        for child in multiprocessing.active_children():
            with suppress(ProcessLookupError):
                if child.pid is not None:
                    os.kill(child.pid, number)

    before = {number: signal.signal(number, pass_on) for number in REQUESTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _cpu_worker(
    local_rank: int,
    main: _Main,
    args: tuple[Any, ...],
    per_machine: int,
    num_machines: int,
    machine_rank: int,
    address: str | int,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    world, rank = per_machine * num_machines, machine_rank * per_machine + local_rank
    if isinstance(address, int):
        store = dist.TCPStore("127.0.0.1", address, None, False, PATIENCE)
        dist.init_process_group("gloo", store=store, world_size=world, rank=rank, timeout=PATIENCE)
    else:
        dist.init_process_group("gloo", init_method=address, world_size=world, rank=rank, timeout=PATIENCE)
    _run(main, args, per_machine)


def _join(main: _Main, args: tuple[Any, ...], device: str | None, place: cluster.Place) -> Any:
    on_gpu = torch.cuda.is_available() and device != "cpu"
    if on_gpu:
        if place.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"local rank {place.local_rank} on a machine with {torch.cuda.device_count()} GPUs: start "
                "as many processes as there are GPUs (torchrun --nproc_per_node, srun --ntasks-per-node)"
            )
        torch.cuda.set_device(place.local_rank)
    cluster.join(place, "nccl" if on_gpu else "gloo", PATIENCE)
    return _run(main, args, place.local_world)


def _run(main: _Main, args: tuple[Any, ...], per_machine: int) -> Any:
    _set_local_group(per_machine)
    comm.synchronize()
    result = main(*args)
    comm.synchronize()  # nobody hangs up while another still talks
    # A group that outlives this function is taken down by the interpreter's exit, when its threads may still
    # run: drop what refers to one (Detectron2's globals, DDP wrappers in reference cycles) before destroying.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    gc.collect()
    dist.destroy_process_group()
    return result


def _set_local_group(per_machine: int) -> None:
    """Tell Detectron2 which processes share this machine, as its own launcher does."""
    world = dist.get_world_size()
    if world % per_machine:
        raise ConfigError(
            f"{world} processes in total, but {per_machine} on this machine: all machines need the same "
            "number of processes"
        )
    if hasattr(comm, "create_local_process_group"):  # after 0.6
        comm.create_local_process_group(per_machine)
        return
    for first in range(0, world, per_machine):
        ranks = list(range(first, first + per_machine))
        group = dist.new_group(ranks)
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group
