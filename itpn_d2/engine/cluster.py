"""What torchrun or Slurm say about the processes of a run, and how these meet."""

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch.distributed as dist

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")
_PORTS = range(15000, 30000)  # below those that systems hand out


@dataclass(frozen=True)
class Place:
    """One process among all of a run.

    Attributes:
        rank, world: among all; local_rank, local_world: on its machine.
        host, port: where the first process, or the agent that started it, keeps the meeting point.
        attempt: tells this start of the job from earlier ones, whose entries in the meeting point are stale.
        hosted: somebody else keeps the meeting point: torchrun's agent.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    host: str
    port: int
    attempt: str
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
            attempt=f"{env.get('TORCHELASTIC_RUN_ID', 'run')}/{env.get('TORCHELASTIC_RESTART_COUNT', '0')}",
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
        attempt=f"{job}.{env.get('SLURM_STEP_ID', '0')}/{env.get('SLURM_RESTART_COUNT', '0')}",
    )


def restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is a later start of a job that began before: it goes on where that one was."""
    names = ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return any(int(environment.get(name) or 0) > 0 for name in names)


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
    """Form the process group of the run.

    The processes meet under a prefix of job and attempt: torchrun's agent keeps one store over restarts, and
    the addresses that dead processes have left in it would be dialled.
    """
    master = own.rank == 0 and not own.hosted
    store = dist.TCPStore(own.host, own.port, own.world, master, timeout, wait_for_workers=False)
    dist.init_process_group(
        backend,
        store=dist.PrefixStore(f"itpn_d2/{own.attempt}", store),
        world_size=own.world,
        rank=own.rank,
        timeout=timeout,
    )
