"""The processes of a run as torchrun or Slurm describe them, and how they connect."""

import datetime
import os
import platform
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from ..files import write_text

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
_PORTS = range(15000, 30000)  # below those that systems hand out
_MARK = ".job"  # in an output folder: which job has begun to train there


@dataclass(frozen=True)
class Place:
    """One process among all of a run.

    Attributes:
        rank, world: among all; local_rank, local_world: on its machine.
        host, port: where the first process, or the agent that started it, keeps the meeting point.
        hosted: somebody else keeps the meeting point, also over restarts: torchrun's agent.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    host: str
    port: int
    hosted: bool = False


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The place of this process by torchrun's variables, else by those that srun sets for several tasks; None
    where neither started it."""
    env = environment
    if all(name in env for name in _TORCHRUN):
        return Place(
            rank=int(env["RANK"]),
            world=int(env["WORLD_SIZE"]),
            local_rank=int(env["LOCAL_RANK"]),
            local_world=int(env.get("LOCAL_WORLD_SIZE", env["WORLD_SIZE"])),
            host=env["MASTER_ADDR"],
            port=int(env.get("MASTER_PORT", "29500")),
            hosted=env.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        )
    # a batch script itself has SLURM_NTASKS, but no step
    tasks = int(env.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks < 2 or "SLURM_PROCID" not in env:
        return None
    job = int(env.get("SLURM_JOB_ID", "0"))
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "127.0.0.1")
    return Place(
        rank=int(env["SLURM_PROCID"]),
        world=tasks,
        local_rank=int(env.get("SLURM_LOCALID", "0")),
        local_world=_tasks_of_node(env, tasks),
        host=env.get("MASTER_ADDR") or first_host(nodes),
        port=int(env.get("MASTER_PORT") or _PORTS[job % len(_PORTS)]),
    )


def restarted(folder: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a later start of a job that has begun before to train into ``folder``: it goes on where
    that one was.

    torchrun's own count does not tell: it is that of one agent, does not change when a machine joins, and
    counts starts that were refused.
    """
    if int(environment.get("SLURM_RESTART_COUNT") or 0) > 0:
        return True
    job = _job(environment)
    mark = folder / _MARK
    return job is not None and mark.is_file() and mark.read_text(errors="replace") == job


def note_begun(folder: Path, environment: Mapping[str, str] = os.environ) -> None:
    """Leave word for later starts of this job that it trains into ``folder``.

    Raises:
        OutputError: the word can't be written.
    """
    job = _job(environment)
    if job is not None:
        write_text(folder / _MARK, job)


def _job(environment: Mapping[str, str]) -> str | None:
    """What all starts of a job of torchrun have in common: its id, else the agent of the first machine."""
    run = environment.get("TORCHELASTIC_RUN_ID")
    if run in ("none", ""):
        return f"agent {os.getppid()} of {platform.node()}"
    return run


def first_host(nodes: str) -> str:
    """The first name of a Slurm list of nodes: ``node[07-09,12],gpu1`` begins with ``node07``."""
    first = re.match(r"(?P<stem>[^\[,]+)(?:\[(?P<number>\d+)[^\]]*\](?P<rest>[^,\[]*))?", nodes)
    if first is None:
        return nodes
    return first["stem"] + (first["number"] or "") + (first["rest"] or "")


def _tasks_of_node(env: Mapping[str, str], tasks: int) -> int:
    """Tasks of this step on this node: ``2(x3),1`` stands for 2, 2, 2, 1."""
    text = env.get("SLURM_STEP_TASKS_PER_NODE") or env.get("SLURM_TASKS_PER_NODE") or str(tasks)
    counts: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if match is not None:
            counts += [int(match[1])] * int(match[2] or 1)
    node = int(env.get("SLURM_NODEID", "0"))
    return counts[node] if node < len(counts) else tasks


def join(own: Place, backend: str, timeout: datetime.timedelta) -> None:
    """Form the process group of the run."""
    store = dist.TCPStore(own.host, own.port, own.world, own.rank == 0 and not own.hosted, timeout, False)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore(f"itpn_d2/{agree(store, own, timeout)}", store) if own.hosted else store,
        world_size=own.world,
        rank=own.rank,
        timeout=timeout,
    )


def agree(store: dist.Store, own: Place, timeout: datetime.timedelta) -> str:
    """A word that the processes of this start have in common and those of no other one.

    An agent keeps its store over restarts, and the addresses that dead processes have left in it would be
    dialled. Each process asks under a word of its own, so that the first one's answer is to the living; what
    it says to questions of the dead nobody reads.

    Raises:
        TimeoutError: not all processes came.
    """
    if own.rank:
        mine = uuid.uuid4().hex
        store.set(f"itpn_d2/ask/{own.rank}", mine)
        word = store.get(f"itpn_d2/answer/{mine}").decode()
        store.set(f"itpn_d2/{word}/{own.rank}", "heard")
        return word
    word = uuid.uuid4().hex
    missing = set(range(1, own.world))
    deadline = time.monotonic() + timeout.total_seconds()
    while missing:
        for rank in sorted(missing):
            if store.check([f"itpn_d2/{word}/{rank}"]):
                missing.discard(rank)
            elif store.check([f"itpn_d2/ask/{rank}"]):
                store.set(f"itpn_d2/answer/{store.get(f'itpn_d2/ask/{rank}').decode()}", word)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(missing)} of {own.world} did not connect to {own.host}")
        time.sleep(0.01)
    return word
