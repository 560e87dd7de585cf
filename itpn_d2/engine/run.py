"""One training run of any kind: folder, device, model, optimizer, checkpoints, hooks, and the loop.

Training (:class:`~itpn_d2.engine.training.Run`) and pre-training (``pretrain.run.PretrainRun``) are
its two kinds; each defines the data, the hooks between iterations, and the results at the end.
"""

import logging
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.utils import comm
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import DictConfig
from torch import nn

from ..checkpoint import Checkpointer, last_checkpoint
from ..data import BrokenImages
from ..errors import ConfigError, UseError, config_errors
from ..files import write_text
from ..lazy.build import build
from ..lazy.targets import find
from ..seed import seed_step
from ..signals import REQUEUE
from ..solver import WeightAverage, factor_of, group_table, scale_rates
from . import cluster
from .building import build_model, in_the_main_process
from .compiling import compile_blocks
from .config import check_config, save_config
from .earlier import make_room
from .hooks import Curves, ScheduledRate
from .parallel import distribute
from .prefetch import prefetched
from .prepare import prepare, say_where, writers
from .profiling import Profile
from .progress import ProgressBar
from .saving import FinishSaving, SaveOnSignal
from .start import start_weights
from .trainer import Trainer

logger = logging.getLogger(__name__)
# On CUDA they take a step in one kernel, which leaves it out where it is not finite without asking the host.
_FUSED = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)


class BaseRun:
    """One run. Building it prepares the data; subclasses override the methods that begin with ``_``.

    Args:
        cfg: as from :func:`load_config`. ``train.output_dir`` is made and gets ``log.txt``; training adds
            ``config.yaml``, ``metrics.json``, ``results.json``, checkpoints and pictures.
    """

    _dynamic_sizes: bool | None = None  # True: images of many sizes
    _is_training = True

    def __init__(self, cfg: DictConfig):
        self.cfg = cfg
        self.lock, self.device, self.dtype = prepare(cfg)
        self.output_dir = self.lock.folder
        self._prepare_data()
        check_config(cfg)  # the data may have told the number of classes
        seed_step(cfg.train.seed)
        self.model: nn.Module = build_model(cfg, self.device, self._is_training)
        trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        logger.info("%s with %.2f M trained parameters", type(self.model).__name__, trained / 1e6)
        ema = cfg.train.ema
        self.average = WeightAverage(self.model, ema.decay) if ema.enabled else None
        self.broken = BrokenImages()

    def train(self, resume: bool = False, more_hooks: Sequence[HookBase] = ()) -> dict[str, Any]:
        """Train to ``train.max_iter``; with ``resume``, and where torchrun or Slurm have started the job
        again, from the last checkpoint in the output folder, if there is one. ``more_hooks`` run after the
        others, except for the hook that handles signals.

        Returns the results that the subclass defines.

        Raises:
            ConfigError: an optimizer or schedule can't be built so, ``resume`` finds a checkpoint for other
                classes, or a fresh start finds checkpoints and ``train.overwrite`` is not set.
            SystemExit: with :data:`~itpn_d2.signals.REQUEUE`, after SIGUSR1.
        """
        with self.lock:
            # the main process decides: the folders of other machines may be others
            again = resume or comm.all_gather(cluster.restarted(self.output_dir))[0]
            if not again:
                train = self.cfg.train
                make_room(self.output_dir, train.overwrite, train.init_checkpoint)
            if comm.is_main_process():
                cluster.note_begun(self.output_dir)
            return self._train(again, more_hooks)

    def _write_config(self) -> None:
        if comm.is_main_process():
            save_config(self.cfg, self.output_dir / "config.yaml")

    def _train(self, resume: bool, more_hooks: Sequence[HookBase]) -> dict[str, Any]:
        self._write_config()
        self._prepare_model(resume)
        again = resume and last_checkpoint(self.output_dir) is not None
        if not again:
            self._load_start()
        trainer = self._build_trainer()
        checkpointer = self._build_checkpointer(trainer)
        self._on_signal = SaveOnSignal(checkpointer)
        trainer.register_hooks([*self._all_hooks(trainer, checkpointer), *more_hooks, self._on_signal])
        start = 0
        if again:
            checkpointer.resume_or_load("", resume=True)
            start = trainer.iter + 1
        max_iter = self.cfg.train.max_iter
        if start >= max_iter:
            logger.info("Nothing to do: %d of %d iterations are already done", start, max_iter)
            checkpointer.complete(start - 1)
            return {}
        trainer.set_data(prefetched(self._batches(start), self.device, getattr(self.model, "on_host", ())))
        with self._first_step_named(trainer):
            trainer.train(start, max_iter)
        self.broken.report(self.output_dir, again)
        if trainer.stop_requested:
            logger.info("Stopped after iteration %d; continue with --resume", trainer.iter - 1)
            if self._on_signal.requeue:
                raise SystemExit(REQUEUE)
            return {}
        results = self._results(trainer)
        say_where(self.output_dir)
        return results

    def _load_start(self) -> None:
        """``train.init_checkpoint``, before the model is distributed: files are of whole weights."""
        weights = start_weights(self.cfg, self.model)
        if not weights:
            return

        def load() -> None:
            self._build_checkpointer(None).load(weights, checkpointables=[])
            if self.average is not None:
                self.average.load_state_dict(self.model.state_dict())

        if self.cfg.train.parallel == "ddp":
            load()
        else:  # all get the values of the first
            in_the_main_process(load)

    @contextmanager
    def _first_step_named(self, trainer: Trainer) -> Iterator[None]:
        """Parts that can be built but do not fit together fail in the first iteration: a ConfigError then
        names the config, and the traceback is saved beside the log."""
        try:
            yield
        except (UseError, MemoryError):
            raise
        except Exception as error:
            alone = comm.get_world_size() == 1  # else it may be the connection to a process that failed
            if trainer.steps or not alone or "out of memory" in str(error):
                raise
            path = self.output_dir / "error.txt"
            if comm.is_main_process():
                write_text(path, traceback.format_exc())
            frame = traceback.extract_tb(error.__traceback__)[-1]
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"the first iteration failed: {reason[:500]} "
                f"({Path(frame.filename).name}:{frame.lineno}). All parts of the config could be built, "
                f"but they don't fit together; see {path}"
            ) from error

    def _prepare_model(self, resume: bool) -> None:
        """Changes to the model that must precede the optimizer."""

    def _build_trainer(self) -> Trainer:
        cfg = self.cfg
        if cfg.train.compile == "blocks":
            compile_blocks(self.model, self._dynamic_sizes)
        model = distribute(self.model, cfg, self.device, self.dtype, self.average)
        optimizer = self._build_optimizer()
        if cfg.train.show_groups:
            rule = self._batch_rule()
            table = group_table(optimizer, self.model)
            logger.info("Parameter groups%s\n%s", f"; {rule}" if rule else "", table)
        return Trainer(
            model,
            optimizer,
            self.dtype,
            cfg.train.accumulate,
            cfg.train.clip_grad_norm,
            self.average,
            cfg.train.seed,
            cfg.train.timeout_s,
            cfg.train.log_period,
            cfg.train.nan,
            cfg.train.count_flops,
        )

    def _build_optimizer(self) -> torch.optim.Optimizer:
        call = self.cfg.optimizer.copy()
        call._set_parent(self.cfg)
        call.params.model = self.model
        chosen = {"fused", "foreach", "capturable", "differentiable"} & set(call)
        if self.device.type == "cuda" and not chosen and find(call._target_, "optimizer") in _FUSED:
            call.fused = True
        optimizer: torch.optim.Optimizer = build(call)
        scale_rates(optimizer, factor_of(self.cfg.dataloader.train))
        rule = self._batch_rule()
        if rule:
            logger.info("Learning rate: %s", rule)
        return optimizer

    def _batch_rule(self) -> str:
        """The effect of ``dataloader.train.reference_batch`` on the learning rate, for the log; empty if
        there is none."""
        loader = self.cfg.dataloader.train
        batch, reference, factor = loader.total_batch_size, loader.get("reference_batch"), factor_of(loader)
        if factor == 1:
            return ""
        rule = loader.get("reference_rule") or "linear"
        text = f"{batch} images a step instead of {reference}: rates times {factor:.4g} ({rule})"
        return text + self._length_rule(batch / reference)

    def _length_rule(self, ratio: float) -> str:
        """The number of iterations that corresponds to a batch of ``ratio`` times the reference batch, for
        the log."""
        same = max(1, round(self.cfg.train.max_iter / ratio))
        return f"; as many images as with that batch would be train.max_iter={same}"

    def _all_hooks(self, trainer: Trainer, checkpointer: Checkpointer) -> list[Any]:
        train = self.cfg.train
        with config_errors("lr_multiplier"):
            schedule = LRMultiplier(trainer.optimizer, self._schedule(), train.max_iter)
        seen = train.profile
        found: list[Any] = [
            Profile(self.output_dir, seen.start, seen.steps, seen.memory),
            hooks.IterationTimer(),
            ScheduledRate(trainer.optimizer, schedule),
        ]
        found += self._hooks(trainer, checkpointer)
        if comm.is_main_process():
            logs = writers(self.output_dir, train.max_iter)
            found.append(hooks.PeriodicWriter(logs, period=train.log_period))
            found.append(hooks.PeriodicWriter([ProgressBar(train.max_iter)], period=1))
            found.append(Curves(self._curves_period(), str(self.output_dir)))
        # last, so that what a checkpoint holds includes what the other hooks remember of this iteration
        return [*found, FinishSaving(checkpointer), self._periodic_checkpoints(checkpointer)]

    def _schedule(self) -> ParamScheduler:
        """The multiplier of the learning rate over the run."""
        return build(self.cfg.lr_multiplier)

    def _prepare_data(self) -> None:
        """Register or list the data; may complete the config."""
        raise NotImplementedError

    def _batches(self, start: int) -> Iterable[Any]:
        """Micro-batches from iteration ``start`` on, on the CPU."""
        raise NotImplementedError

    def _build_checkpointer(self, trainer: Trainer | None) -> Checkpointer:
        """A checkpointer without a trainer, for weights to start from."""
        raise NotImplementedError

    def _hooks(self, trainer: Trainer, checkpointer: Checkpointer) -> list[Any]:
        """The hooks of this kind of run, in addition to those of every run."""
        raise NotImplementedError

    def _curves_period(self) -> int:
        raise NotImplementedError

    def _periodic_checkpoints(self, checkpointer: Checkpointer) -> HookBase:
        raise NotImplementedError

    def _results(self, trainer: Trainer) -> dict[str, Any]:
        """The return value of a finished run."""
        raise NotImplementedError
