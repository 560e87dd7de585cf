"""When checkpoints are written: before an evaluation, when a metric is at its best, and on a signal."""

import logging
import signal
import threading
import time
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..checkpoint import Checkpointer
from ..evaluation import is_better
from ..sharded import is_sharded
from ..signals import REQUESTS, asks_to_requeue
from ..solver import WeightAverage
from .hooks import due

logger = logging.getLogger(__name__)
_ONE_REQUEST = 3.0  # seconds


class SaveBeforeEvaluation(HookBase):
    """Save a checkpoint before every evaluation, so that a failed evaluation loses no training.

    ``period`` is that of the evaluation. The last one is preceded by ``model_final``.
    """

    def __init__(self, period: int, checkpointer: Checkpointer):
        self.period, self.checkpointer = period, checkpointer

    def after_step(self) -> None:
        """Save a checkpoint when an evaluation is due."""
        done, end = self.trainer.iter, self.trainer.max_iter
        if due(done, self.period, end):
            name = "model_final" if done + 1 >= end else f"model_{done:07d}"
            self.checkpointer.save(name, iteration=done)


class FinishSaving(HookBase):
    """Complete checkpoints that are written during training as soon as all their shards are written, and at
    the latest at the end."""

    def __init__(self, checkpointer: Checkpointer):
        self.checkpointer = checkpointer

    def after_step(self) -> None:
        """Finish the checkpoint that is being written, if all of it is written; does not wait."""
        self.checkpointer.poll()

    def after_train(self) -> None:
        """Wait for the checkpoint that is being written."""
        self.checkpointer.wait()


class BestCheckpoint(HookBase):
    """Keep ``model_best.pth``: the weights with the best value so far of a named metric.

    ``metric`` is a key as in metrics.json, e.g. ``segm/AP`` or ``ema/segm/AP``; the latter saves the averaged
    weights.

    Raises:
        ValueError: ``mode`` is neither ``max`` nor ``min``.
    """

    def __init__(
        self,
        period: int,
        metric: str,
        checkpointer: Any,
        average: WeightAverage | None = None,
        mode: str = "max",
    ):
        if mode not in ("max", "min"):
            raise ValueError(f"mode {mode!r}: choose max or min")
        self.period, self.metric, self.checkpointer, self.mode = period, metric, checkpointer, mode
        self.average = average if metric.startswith("ema/") else None
        self.best: float | None = None
        self.best_iteration = -1

    def after_step(self) -> None:
        """When it is due, save the weights if this iteration's value of the metric is the best so far."""
        if not due(self.trainer.iter, self.period, self.trainer.max_iter):
            return
        better = comm.is_main_process() and self._is_better()
        if is_sharded(self.trainer.bare_model):
            better = comm.all_gather(better)[0]  # all have to give their shards
        if better:
            self._save()

    def _is_better(self) -> bool:
        latest = self.trainer.storage.latest()
        if self.metric not in latest:
            known = ", ".join(
                k for k in latest if "/AP" in k or "loss" in k or k.endswith(("mIoU", "PQ", "top1"))
            )
            logger.warning("train.best_metric=%s was not measured; measured: %s", self.metric, known)
            return False
        value, iteration = latest[self.metric]
        if iteration != self.trainer.iter or not is_better(value, self.best, self.mode):
            return False
        self.best, self.best_iteration = float(value), int(iteration)
        logger.info("Best %s so far: %.3f, to model_best.pth", self.metric, self.best)
        return True

    def _save(self) -> None:
        if self.average is not None:
            with self.average.swapped_into(self.trainer.bare_model):
                self.checkpointer.save_weights("model_best", metric=self.metric, value=self.best)
        else:
            self.checkpointer.save_weights("model_best", metric=self.metric, value=self.best)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far and its iteration, None and -1 before there is one."""
        return {"best": self.best, "best_iteration": self.best_iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best value so far and its iteration from a checkpoint."""
        self.best, self.best_iteration = state["best"], state["best_iteration"]


class SaveOnSignal(HookBase):
    """On SIGTERM, Ctrl-C or SIGUSR1 finish the iteration, save a checkpoint and leave, so that ``--resume``
    loses nothing.

    A second request does not wait for the end of the iteration. What comes within ``_ONE_REQUEST`` seconds is
    the same request: a process gets it from its group and again from the process that started it.

    The last hook of a run, at whose end all processes have done what belongs to the iteration.

    Attributes:
        requeue: the request said that the job will be started again.
    """

    def __init__(self, checkpointer: Checkpointer):
        self.checkpointer = checkpointer
        self.requeue = False
        self._received: float | None = None  # when, on the monotonic clock
        self._previous: dict[int, Any] = {}

    def before_train(self) -> None:
        """Install the handlers of the signals, in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread of a process can have handlers
        for number in REQUESTS:
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self._received is None:
            self._received, self.requeue = now, asks_to_requeue(number)
            logger.warning("signal %d: saving a checkpoint and stopping after this iteration", number)
        elif now - self._received > _ONE_REQUEST:
            raise KeyboardInterrupt

    def after_step(self) -> None:
        """If any process has got a signal, all save a checkpoint and training stops."""
        received = self._received is not None
        if comm.get_world_size() > 1:
            # Here the processes also wait for what the main one has done alone, with patience, before the
            # next step, in which they have little.
            told = torch.tensor([received, self.requeue], dtype=torch.uint8)
            dist.all_reduce(told, dist.ReduceOp.MAX, comm._get_global_gloo_group())
            received, self.requeue = map(bool, told.tolist())
        if received:
            if self._received is None:  # another process has told, and this one's signal may be on its way
                self._received = time.monotonic()
            self.checkpointer.save(f"model_{self.trainer.iter:07d}", iteration=self.trainer.iter)
            self.trainer.stop_requested = True

    def after_train(self) -> None:
        """Put the earlier handlers of the signals back. After a request, wait for duplicates of the same
        request, which would otherwise end a process that has saved everything with an error."""
        if self._received is not None and self._previous:
            time.sleep(max(0.0, self._received + _ONE_REQUEST - time.monotonic()))
        for number, handler in self._previous.items():
            signal.signal(number, handler)
