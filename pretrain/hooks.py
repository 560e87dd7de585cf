"""What happens between iterations of a pre-training run."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from fvcore.common.checkpoint import PeriodicCheckpointer
from torch import nn

from itpn_d2.engine.config import ConfigError
from itpn_d2.solver import WeightAverage

from .clock import Clock
from .methods import Method

logger = logging.getLogger(__name__)


class MethodSteps(HookBase):
    """Tells the method how far the run is, and writes the epoch into the metrics."""

    def __init__(self, method: Method, clock: Clock):
        self.method, self.clock = method, clock

    def after_step(self) -> None:
        epoch = self.clock.epoch(self.trainer.iter + 1)
        self.method.after_step(epoch)
        self.trainer.storage.put_scalar("epoch", epoch, smoothing_hint=False)


class FollowSize(HookBase):
    """At the start of a stage with another image size, makes positions, windows and relative tables follow.

    A table of a new shape is a new parameter: it takes the old one's place in the optimizer, without moments.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        clock: Clock,
        average: WeightAverage | None = None,
    ):
        self.method, self.optimizer, self.clock, self.average = method, optimizer, clock, average

    def before_step(self) -> None:
        segment = self.clock.segment(self.trainer.iter)
        if segment.start != self.trainer.iter or segment is self.clock.segments[0]:
            return
        logger.info("Epoch %d: images of %d pixels, batch %d", segment.epoch, segment.size, segment.batch)
        before = dict(self.method.named_parameters())
        replaced = self.method.set_input_size((segment.size, segment.size))
        if replaced and comm.get_world_size() > 1:
            raise ConfigError(
                f"{replaced[0]} changes its shape with the image size, which several processes can't follow "
                f"within a run: run the stages one by one, each with train.init_checkpoint of the one before"
            )
        if self.average is not None:
            averaged: Any = self.average.module
            averaged.set_input_size((segment.size, segment.size))
        after = dict(self.method.named_parameters())
        for name in replaced:
            replace_parameter(self.optimizer, before[name], after[name])


def replace_parameter(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter) -> None:
    """Put ``new`` in the group of ``old``, which leaves with its moments."""
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    optimizer.state.pop(old, None)


class EpochCheckpoints(HookBase):
    """``model_<iteration>.pth`` every so many epochs, of which the last few are kept, and ``model_final.pth``."""

    def __init__(self, checkpointer: Any, clock: Clock, period: float, max_to_keep: int | None):
        self.clock, self.period = clock, period
        self.writer = PeriodicCheckpointer(checkpointer, 1, clock.max_iter, max_to_keep)

    def after_step(self) -> None:
        if self.clock.due(self.trainer.iter, self.period or self.clock.epochs):
            self.writer.step(self.trainer.iter)


class Origin:
    """What a checkpoint says about where it comes from; written with every one, never read back into a run."""

    def __init__(self, **facts: Any):
        self.facts = facts
        self.epochs = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {**self.facts, "epochs_done": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: the run that goes on states its own."""


class OriginEpochs(HookBase):
    """Keeps the number of epochs of an :class:`Origin` up to date."""

    def __init__(self, origin: Origin, clock: Clock):
        self.origin, self.clock = origin, clock

    def after_step(self) -> None:
        self.origin.epochs = self.clock.epoch(self.trainer.iter + 1)


def write_summary(path: Path, storage: Any) -> dict[str, float]:
    """``results.json``: the last value of every metric of the run."""
    from itpn_d2.evaluation import write_results

    latest = {k: float(v[0]) for k, v in storage.latest().items()}
    write_results(path, latest)
    return latest
