"""One process or many: torchrun, Detectron2's launcher for GPUs, or gloo processes on the CPU."""

import datetime
import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import launch as launch_gpus
from detectron2.utils import comm

_TIMEOUT = datetime.timedelta(minutes=30)


def under_torchrun() -> bool:
    """Whether torchrun (or anything that sets its variables) started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"))


def launch(
    main: Callable[..., Any],
    num_gpus: int = 0,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    num_processes: int = 1,
    args: tuple[Any, ...] = (),
) -> Any:
    """Run ``main(*args)`` in as many processes as asked for; in one process its result is returned.

    Args:
        num_gpus: GPU processes of each machine (0: no GPU launcher).
        num_processes: CPU processes of this machine, joined by gloo, when there are no GPUs.
        dist_url: ``tcp://HOST:PORT`` of the first machine; ``auto`` is a free port of this one.

    Raises:
        ValueError: ``auto`` with several machines. A failed process's exception, with its traceback.
    """
    if under_torchrun():
        return _join(main, args)
    if num_machines > 1 and dist_url == "auto":
        raise ValueError("several machines need --dist-url tcp://HOST:PORT of the first one")
    if num_gpus > 1 or (num_gpus == 1 and num_machines > 1):
        return launch_gpus(main, num_gpus, num_machines, machine_rank, dist_url, args)
    world = num_processes * num_machines
    if world == 1:
        return main(*args)
    url = f"tcp://127.0.0.1:{_free_port()}" if dist_url == "auto" else dist_url
    threads = max(1, torch.get_num_threads() // num_processes)
    mp.start_processes(
        _worker, (main, args, world, num_processes, machine_rank, url, threads), num_processes, start_method="spawn"
    )
    return None


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _worker(
    local_rank: int,
    main: Callable[..., Any],
    args: tuple[Any, ...],
    world: int,
    per_machine: int,
    machine_rank: int,
    url: str,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    rank = machine_rank * per_machine + local_rank
    dist.init_process_group("gloo", init_method=url, world_size=world, rank=rank, timeout=_TIMEOUT)
    _run(main, args, per_machine)


def _join(main: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    local_rank = int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_TIMEOUT)
    return _run(main, args, int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"])))


def _run(main: Callable[..., Any], args: tuple[Any, ...], per_machine: int) -> Any:
    _set_local_group(per_machine)
    comm.synchronize()
    result = main(*args)
    comm.synchronize()
    dist.destroy_process_group()
    return result


def _set_local_group(per_machine: int) -> None:
    """Tell Detectron2 which processes share this machine, as its own launcher does."""
    if hasattr(comm, "create_local_process_group"):  # after 0.6
        comm.create_local_process_group(per_machine)
        return
    for machine in range(dist.get_world_size() // per_machine):
        ranks = list(range(machine * per_machine, (machine + 1) * per_machine))
        group = dist.new_group(ranks)
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group
