"""Timeouts for processes that wait for one another.

In a step, all do the same work: one that keeps the others waiting for minutes is dead or hangs, and a run
that ends can be started again. Around steps the main process works alone, at checkpoints, pictures and
metrics, and in the first one everybody does what takes long once. There the others wait longer.
"""

import datetime
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from detectron2.utils import comm
from torch.distributed import distributed_c10d

logger = logging.getLogger(__name__)
# Longer than the main process alone takes to compute COCO's metrics, while the others wait.
PATIENCE = datetime.timedelta(minutes=30)


def _set(timeout: datetime.timedelta) -> None:
    """For whatever begins from now on, in the groups that steps and hooks use."""
    for group in {dist.group.WORLD, comm._get_global_gloo_group()}:
        if hasattr(dist, "set_timeout"):
            dist.set_timeout(timeout, group)
        else:  # before torch 2.14
            distributed_c10d._set_pg_timeout(timeout, group)


@contextmanager
def hurried(seconds: float | None) -> Iterator[None]:
    """Within it, a process waits so long for another, then fails; None: as long as ever."""
    if seconds is None or comm.get_world_size() == 1:
        yield
        return
    _set(datetime.timedelta(seconds=seconds))
    try:
        yield
    except RuntimeError as error:
        if "timed out" in str(error).lower():
            logger.error(
                "process %d has waited train.timeout_s=%g seconds for another process in a step: that "
                "process has died or hangs, or the timeout is too short for this run",
                comm.get_rank(),
                seconds,
            )
        raise
    finally:
        _set(PATIENCE)
