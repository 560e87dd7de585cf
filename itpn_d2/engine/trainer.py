"""The training loop: mixed precision on any device, accumulation, clipping, weight averaging, exact
resume."""

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..errors import ConfigError, DivergenceError
from ..seed import seed_step
from ..solver import WeightAverage
from .precision import autocast

logger = logging.getLogger(__name__)


class Trainer(TrainerBase):
    """Detectron2 training loop over a model that returns a dict of losses.

    The random state is a function of (seed, micro-batch, rank), not of history, and so are the data: a run
    that is resumed at iteration i is, on the CPU, bit for bit the run that was never stopped.

    Args:
        model: in training mode, on its device; wrapped for distributed training or not.
        optimizer: over the model's parameters.
        accumulate: micro-batches per optimizer step; the loss is their mean.
        clip_grad_norm: largest L2 norm of the gradient, None for no clipping.
        average: moving average to update after each step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        dtype: torch.dtype = torch.float32,
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        average: WeightAverage | None = None,
        seed: int = 0,
    ):
        super().__init__()
        if accumulate < 1:
            raise ValueError(f"train.accumulate={accumulate}: must be at least 1")
        model.train()
        self.model = model
        self.optimizer = optimizer
        self.dtype = dtype
        self.device = next(model.parameters()).device
        self.accumulate = accumulate
        self.clip_grad_norm = clip_grad_norm
        self.average = average
        self.seed = seed
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.steps = 0  # that this object has taken
        self.stop_requested = False  # a hook may set it: the loop ends after the iteration
        self._batches: Iterator[Any] | None = None

    @property
    def bare_model(self) -> nn.Module:
        """The model without its distributed wrapper."""
        model = self.model
        return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model

    def set_data(self, batches: Iterable[Any]) -> None:
        """Micro-batches from the first iteration to run; an infinite iterable."""
        self._batches = iter(batches)

    def train(self, start_iter: int, max_iter: int) -> None:
        """Iterations ``start_iter`` to ``max_iter - 1``, or until ``stop_requested``; then the hooks'
        ``after_train``."""
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        self.stop_requested = False
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                for self.iter in range(start_iter, max_iter):
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    if self.stop_requested:
                        break
                self.iter += 1  # as many as are done, which writers take as the end
            finally:
                self.after_train()

    def run_step(self) -> None:
        assert self._batches is not None, "call set_data before train"
        assert self.model.training, "the model was switched to evaluation mode"
        totals: dict[str, torch.Tensor] = {}
        waited = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for micro in range(self.accumulate):
            started = time.perf_counter()
            batch = next(self._batches)
            waited += time.perf_counter() - started
            seed_step(self.seed, self.iter * self.accumulate + micro, comm.get_rank())
            last = micro == self.accumulate - 1
            with nullcontext() if last else self._gradients_stay_local():
                with autocast(self.device, self.dtype):
                    losses = self.model(batch)
                losses = losses if isinstance(losses, dict) else {"loss": losses}
                total = sum(loss.float() for loss in losses.values()) / self.accumulate
                self.scaler.scale(total).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach().float() / self.accumulate
        self._update(totals, waited)
        self.steps += 1

    def _gradients_stay_local(self) -> AbstractContextManager:
        """Processes exchange gradients once a step, after the last micro-batch."""
        model = self.model
        return model.no_sync() if isinstance(model, nn.parallel.DistributedDataParallel) else nullcontext()

    def _update(self, losses: dict[str, torch.Tensor], waited: float) -> None:
        """Writes what the step found, and takes it. Losses and norm come from the device in one transfer."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm or float("inf"))
        *values, norm_value = torch.stack([*losses.values(), norm.to(self.device)]).tolist()
        self._write_losses(dict(zip(losses, values, strict=True)), waited)
        if math.isfinite(norm_value) or self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
        else:
            # a finite loss with an overflowed gradient would poison every weight; the step is left out and
            # said
            logger.warning(
                "iteration %d: gradient norm is %s, optimizer step left out", self.iter, norm_value
            )
        self.scaler.update()
        self.storage.put_scalar("grad_norm", norm_value, smoothing_hint=True)
        if self.average is not None:
            self.average.update(self.bare_model, self.iter)

    def _write_losses(self, metrics: dict[str, float], waited: float) -> None:
        reduced = comm.gather({**metrics, "data_time": waited})
        if not comm.is_main_process():
            # each rank judges its own losses: the main process would wait in vain for a rank that stopped
            self._check_finite(metrics)
            return
        mean = {name: sum(m[name] for m in reduced) / len(reduced) for name in metrics}
        self.storage.put_scalar("data_time", max(m["data_time"] for m in reduced))
        self._check_finite(mean)
        self.storage.put_scalar("total_loss", sum(mean.values()))
        if len(mean) > 1:
            self.storage.put_scalars(**mean)

    def _check_finite(self, losses: dict[str, float]) -> None:
        total = sum(losses.values())
        if total != total or abs(total) == float("inf"):
            raise DivergenceError(
                f"loss is {total} at iteration {self.iter}: {losses}. Lower optimizer.lr, "
                f"set train.clip_grad_norm=1.0, or train.amp.dtype=fp32; checkpoints written so far are good"
            )

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["scaler"] = self.scaler.state_dict()
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what a run has learnt so far. Its settings are not restored: those of the config hold, of
        the optimizer's groups, too. A moving average that the run had not begins at the model's weights.

        Raises:
            ConfigError: the optimizer has other groups of parameters.
        """
        super().load_state_dict(state)
        self._load_optimizer(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state.get("average") or self.bare_model.state_dict())

    def _check_moments(self, state: dict[str, Any]) -> None:
        """ConfigError where a tensor of the optimizer's state has not the shape of its parameter."""
        own = [p for group in self.optimizer.param_groups for p in group["params"]]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        for number, parameter in zip(numbers, own, strict=True):
            for name, value in state["state"].get(number, {}).items():
                if torch.is_tensor(value) and value.ndim and value.shape != parameter.shape:
                    raise ConfigError(
                        f"--resume: {name} of the optimizer has the shape {tuple(value.shape)}, its "
                        f"parameter {tuple(parameter.shape)}: the checkpoint is of another run; "
                        f"start in another train.output_dir from train.init_checkpoint=FILE"
                    )

    def _load_optimizer(self, state: dict[str, Any]) -> None:
        # the rate is the schedule's to say
        kept = ("params", "lr")
        groups = [{k: v for k, v in g.items() if k not in kept} for g in self.optimizer.param_groups]
        sizes = [len(group["params"]) for group in self.optimizer.param_groups]
        if sizes != [len(group["params"]) for group in state["param_groups"]]:
            raise ConfigError(
                "--resume: the optimizer has other groups of parameters than the checkpoint's: leave "
                "optimizer.params (layer_decay, decayed, undecayed, ...) and what is frozen as they were, or "
                "start in another train.output_dir from train.init_checkpoint=FILE"
            )
        self._check_moments(state)
        self.optimizer.load_state_dict(state)
        for group, settings in zip(self.optimizer.param_groups, groups, strict=True):
            group.update(settings)
