"""The training loop: mixed precision on any device, accumulation, clipping, weight averaging, exact
resume."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Literal

import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn
from torch.distributed.tensor import DTensor

from ..layers import Draws, draw_by_sample, drawing
from ..seed import seed_step
from ..sharded import is_sharded
from ..solver import WeightAverage
from .finite import FiniteCheck, contagious, divergence_named, drops_by_itself
from .flops import flop_counter, throughput
from .hooks import due
from .normalisers import load_normalisers, normalisers
from .optimizer_state import load_optimizer
from .parallel import gradients_stay_local
from .precision import autocast
from .progress import peak_memory
from .records import Record, images_in, positions_in, write
from .timeouts import hurried

logger = logging.getLogger(__name__)


class Trainer(TrainerBase):
    """Detectron2 training loop over a model that returns a dict of losses.

    The random state is a function of (seed, micro-batch, rank), not of history, and so are the data: on the
    CPU, a run that is resumed at iteration i is bit for bit the same as one that was never stopped. Draws
    that belong to a sample (dropped paths, masks, training examples) come from the seed and the sample's
    position instead, if batches contain it, so that the number of processes does not matter: see
    :mod:`itpn_d2.layers.draws`.

    Args:
        model: in training mode, on its device; wrapped for distributed training or not.
        optimizer: over the model's parameters.
        accumulate: micro-batches per optimizer step; the loss is their mean.
        clip_grad_norm: largest L2 norm of the gradient, None for no clipping.
        average: moving average to update after each step.
        timeout_s: seconds that a process waits for another in any step but the first; None: as elsewhere.
        log_period: iterations after which losses are written to the storage together, and after the last one.
        nan: how a non-finite loss is handled, see :class:`.FiniteCheck`.
        count_flops: count the operations of the first micro-batch, recomputed ones included.

    Attributes:
        flops: operations of a step in this process, counted in the first one; 0 if they are not counted.
        late: steps are judged one step later, so that the host does not wait for the device.

    Raises:
        ValueError: ``accumulate`` is below 1.
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
        timeout_s: float | None = None,
        log_period: int = 1,
        nan: Literal["stop", "skip"] = "stop",
        count_flops: bool = False,
    ):
        super().__init__()
        if accumulate < 1:
            raise ValueError(f"train.accumulate={accumulate}: must be at least 1")
        model.train()
        self.model = draw_by_sample(model)
        self.optimizer = optimizer
        self.dtype = dtype
        self.device = next(model.parameters()).device
        self.accumulate = accumulate
        self.clip_grad_norm = clip_grad_norm
        self.average = average
        self.seed, self.timeout_s = seed, timeout_s
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.log_period, self.count_flops, self.flops = log_period, count_flops, 0
        self.check = FiniteCheck(nan, self.scaler.is_enabled())
        self.late = self.device.type == "cuda" and drops_by_itself(optimizer) and not is_sharded(model)
        self._records: list[Record] = []  # since the last that went to the storage
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
                    with hurried(self.timeout_s if self.steps else None):
                        self.run_step()
                    self.after_step()
                    if self.stop_requested:
                        break
                self.check.finish()
                self._write()
                self.iter += 1  # as many as are done, which writers take as the end
            except BaseException:
                self._end_failed()
                raise
            else:
                self.after_train()

    def _end_failed(self) -> None:
        """Let the hooks finish although training has failed. Errors that they raise now are consequences and
        would hide the error that the user has to see."""
        if comm.get_world_size() == 1:  # others may not come any more
            with suppress(Exception):
                self._write()
        self.storage.iter = self.iter
        for hook in self._hooks:
            with suppress(Exception):
                hook.after_train()

    def run_step(self) -> None:
        """One optimizer step, over ``accumulate`` micro-batches.

        Raises:
            DivergenceError: the run should not go on, see :class:`.FiniteCheck`.
        """
        assert self._batches is not None, "call set_data before train"
        assert self.model.training, "the model was switched to evaluation mode"
        totals: dict[str, torch.Tensor] = {}
        waited, images, began = 0.0, 0, time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        for micro in range(self.accumulate):
            started = time.perf_counter()
            batch = next(self._batches)
            waited += time.perf_counter() - started
            images += images_in(batch)
            seed_step(self.seed, self.iter * self.accumulate + micro, comm.get_rank())
            last = micro == self.accumulate - 1
            with (
                nullcontext() if last else gradients_stay_local(self.model),
                self._counted(micro),
                drawing(self._draws(batch)),
            ):
                with autocast(self.device, self.dtype), divergence_named(self.iter):
                    losses = self.model(batch)
                losses = losses if isinstance(losses, dict) else {"loss": losses}
                total = sum(loss.float() for loss in losses.values()) / self.accumulate
                self.scaler.scale(contagious(total)).backward()
            for name, loss in losses.items():
                totals[name] = totals.get(name, 0.0) + loss.detach().float() / self.accumulate
        record = self._update(totals, waited)
        record.seconds, record.images = time.perf_counter() - began, images
        if due(self.iter, self.log_period, self.max_iter):
            self._write()
        self.steps += 1

    def _draws(self, batch: Any) -> Draws | None:
        positions = positions_in(batch)
        return None if positions is None else Draws(self.seed, positions, self.device)

    @contextmanager
    def _counted(self, micro: int) -> Iterator[None]:
        """Operations are counted within the first micro-batch of all."""
        if not self.count_flops or self.steps or micro:
            yield
            return
        with flop_counter() as counter:
            yield
        self.flops = counter.get_total_flops() * self.accumulate

    def _update(self, losses: dict[str, torch.Tensor], waited: float) -> Record:
        """Take the step if losses and gradients are finite; their values are kept for the log."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip_grad_norm or float("inf"))
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        # what fails in the first step fails there
        late = self.late and self.steps > 0
        record = Record.begin(self.iter, losses, norm, waited, late)
        if late:
            self.check.later(record)
            self._step_unless_bad(norm)
        elif self.check.now(record):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self._records.append(record)
        if self.average is not None:
            self.average.update(self.bare_model, self.iter)
        return record

    def _step_unless_bad(self, norm: torch.Tensor) -> None:
        """Skip the step on the device if the norm is not finite, in the same way in each process."""
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)  # has looked at the gradients itself
            return
        optimizer: Any = self.optimizer
        optimizer.grad_scale, optimizer.found_inf = None, (~norm.isfinite()).float()
        try:
            optimizer.step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf

    def _write(self) -> None:
        records, self._records = self._records, []
        if not records:
            return
        write(records, self.storage)
        beside: dict[str, float] = {}
        memory = peak_memory()
        if memory is not None:
            beside["memory_gib"] = memory / 2**30
        if self.check.skipped:
            beside["skipped_steps"] = self.check.skipped
        if self.scaler.is_enabled():
            beside["amp_scale"] = self.scaler.get_scale()
        seconds = sum(record.seconds for record in records)
        beside |= throughput(self.flops * len(records), seconds, self.device, self.dtype)
        self.storage.put_scalars(smoothing_hint=False, **beside)

    def state_dict(self) -> dict[str, Any]:
        """State besides the model: iteration, hooks, optimizer, loss scale, moving averages, bad steps."""
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["scaler"] = self.scaler.state_dict()
        state["normalisers"] = normalisers(self.bare_model)
        state["check"] = self.check.state_dict()
        if self.average is not None:
            state["average"] = self.average.state_dict()
        return state

    def like(self) -> dict[str, Any]:
        """Tensors whose shards say which ones this process needs of those in a state: the average's, and a
        parameter for all that an optimizer keeps of it."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        average = {} if self.average is None else self.average.state_dict()
        return {"optimizer": {"state": dict(enumerate(parameters))}, "average": average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what a run has learnt so far. Its settings are not restored: those of the config apply,
        also for the optimizer's groups. A moving average that the checkpoint lacks starts from the model's
        weights.

        Raises:
            ConfigError: the optimizer's state is that of other parameters, or is not finite.
            ValueError: a normaliser of the losses is not a valid divisor.
        """
        super().load_state_dict(state)
        load_optimizer(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        # earlier versions have written neither
        load_normalisers(self.bare_model, state.get("normalisers", {}))
        self.check.load_state_dict(state.get("check", {}))
        if self.average is not None:
            self.average.load_state_dict(state.get("average") or self.bare_model.state_dict())
