"""Train or evaluate what a LazyConfig describes: the work behind ``train_net.py``."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from omegaconf import DictConfig
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from ..checkpoint import Checkpointer
from ..data import prepare_datasets
from ..errors import ConfigError, config_errors
from ..solver import WeightAverage, group_table, parameter_rules, rule_options
from .broken import ReplacedRecords
from .config import save_config
from .evaluate import evaluate
from .fingerprint import Fingerprint
from .hooks import (
    BestCheckpoint,
    Curves,
    Evaluation,
    SaveBeforeEvaluation,
    SaveOnSignal,
    ValidationLoss,
    VisualizePredictions,
)
from .prepare import distribute, prepare, say_where, writers
from .progress import ProgressBar
from .seed import seed_step
from .trainer import Trainer

logger = logging.getLogger(__name__)


class Run:
    """Everything of one run: model, precision, moving average, checkpoints. Building it prepares the
    datasets.

    Args:
        cfg: as from :func:`load_config`. ``train.output_dir`` is made and gets ``config.yaml`` and
            ``log.txt``.
    """

    def __init__(self, cfg: DictConfig):
        self.cfg = cfg
        self.lock, self.device, self.dtype = prepare(cfg)
        self.output_dir = self.lock.folder
        prepare_datasets(cfg.dataset)
        if comm.is_main_process():
            save_config(cfg, self.output_dir / "config.yaml")
        seed_step(cfg.train.seed)
        self.model = self._build_model()
        ema = cfg.train.ema
        self.average = WeightAverage(self.model, ema.decay) if ema.enabled else None
        self.broken = ReplacedRecords()

    def _build_model(self) -> nn.Module:
        with config_errors("model"):
            model = instantiate(self.cfg.model).to(self.device)
        if self.device.type != "cuda" and any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
            logger.info("SyncBN needs CUDA: per-process BatchNorm takes its place on %s", self.device)
            model = _without_sync_bn(model)
        count = sum(p.numel() for p in model.parameters())
        logger.info("%s with %.2f M parameters", type(model).__name__, count / 1e6)
        return model

    def load_weights(self, what: str) -> None:
        """Load ``train.init_checkpoint`` for evaluation.

        Raises:
            ConfigError: none is given; the message says that ``what`` needs one.
        """
        checkpoint = self.cfg.train.init_checkpoint
        if not checkpoint:
            raise ConfigError(f"{what} needs weights: train.init_checkpoint=FILE")
        Checkpointer(self.model, str(self.output_dir)).load(checkpoint, checkpointables=[])
        self.model.eval()

    def evaluate(self) -> OrderedDict[str, Any]:
        """``--eval-only``: load ``train.init_checkpoint`` and evaluate it; draws predictions too."""
        with self.lock:
            self.load_weights("--eval-only")
            results = evaluate(self.cfg, self.model, self.dtype)
            images = self.cfg.train.visualize.images
            if comm.is_main_process() and images:
                drawer = VisualizePredictions(0, self.cfg, self.model, self.dtype, images)
                print(f"predictions: {drawer.draw('predictions.png')}")
        return results

    def train(self, resume: bool = False, more_hooks: Sequence[HookBase] = ()) -> OrderedDict[str, Any]:
        """Train to ``train.max_iter``; with ``resume`` from the last checkpoint in the output folder, if
        there is one. ``more_hooks`` run after the others.

        Returns the results of the last evaluation (empty when evaluation is off).

        Raises:
            ConfigError: an optimizer or schedule can't be built so, or ``resume`` meets other classes.
        """
        with self.lock:
            return self._train(resume, more_hooks)

    def _train(self, resume: bool, more_hooks: Sequence[HookBase]) -> OrderedDict[str, Any]:
        cfg = self.cfg
        cfg.optimizer.params.model = self.model
        with config_errors("optimizer"):
            optimizer = instantiate(cfg.optimizer)
        if cfg.train.show_groups:
            rules = parameter_rules(self.model, **rule_options(cfg.optimizer.params))
            logger.info("Parameter groups\n%s", group_table(rules, cfg.optimizer.lr))
        cfg.optimizer.params.model = None
        distributed = distribute(self.model, cfg, self.device)
        trainer = Trainer(
            distributed,
            optimizer,
            self.dtype,
            cfg.train.accumulate,
            cfg.train.clip_grad_norm,
            self.average,
            cfg.train.seed,
        )
        checkpointer = Checkpointer(
            self.model,
            str(self.output_dir),
            cfg.train.checkpointer.max_to_keep,
            trainer=trainer,
            fingerprint=Fingerprint(cfg),
        )
        results: OrderedDict[str, Any] = OrderedDict()
        self._register_hooks(trainer, optimizer, checkpointer, results)
        trainer.register_hooks(list(more_hooks))
        resumed = resume and checkpointer.has_checkpoint()
        start = 0
        if resumed:
            checkpointer.resume_or_load("", resume=True)
            start = trainer.iter + 1
        elif cfg.train.init_checkpoint:
            checkpointer.load(cfg.train.init_checkpoint, checkpointables=[])
            if self.average is not None:
                self.average.load_state_dict(self.model.state_dict())
        if start >= cfg.train.max_iter:
            logger.info("Nothing to do: %d of %d iterations are done", start, cfg.train.max_iter)
            checkpointer.complete(start - 1)
            return results
        trainer.set_data(self.broken.watch(self._training_batches(start)))
        trainer.train(start, cfg.train.max_iter)
        self.broken.report(self.output_dir)
        if trainer.stop_requested:
            logger.info("Stopped after iteration %d; go on with --resume", trainer.iter - 1)
        else:
            say_where(self.output_dir)
        return results

    def _training_batches(self, start: int) -> Any:
        total, accumulate = self.cfg.dataloader.train.total_batch_size, self.cfg.train.accumulate
        if total % accumulate:
            raise ConfigError(
                f"dataloader.train.total_batch_size={total} is not divisible by train.accumulate={accumulate}"
            )
        loader = self.cfg.dataloader.train.copy()
        loader._set_parent(self.cfg.dataloader)  # interpolations reach the whole config
        loader.total_batch_size = total // accumulate
        loader.start_iter = start * accumulate
        return instantiate(loader)

    def _register_hooks(
        self,
        trainer: Trainer,
        optimizer: torch.optim.Optimizer,
        checkpointer: Checkpointer,
        results: OrderedDict[str, Any],
    ) -> None:
        cfg, train = self.cfg, self.cfg.train

        def evaluate_now() -> OrderedDict[str, Any]:
            results.clear()
            results.update(evaluate(cfg, self.model, self.dtype, self.average))
            return results

        scheduler = _build_scheduler(cfg, optimizer)
        registered: list[Any] = [
            hooks.IterationTimer(),
            hooks.LRScheduler(optimizer, scheduler),
        ]
        period = train.eval_period
        if period:
            if train.validation_loss:
                loader = instantiate(cfg.dataloader.val_loss)
                registered.append(ValidationLoss(period, loader, self.model, self.dtype))
            registered.append(SaveBeforeEvaluation(period, checkpointer))
            registered.append(Evaluation(period, evaluate_now))
            if train.best_metric:
                registered.append(BestCheckpoint(period, train.best_metric, checkpointer, self.average))
        if train.visualize.period:
            registered.append(
                VisualizePredictions(
                    train.visualize.period, cfg, self.model, self.dtype, train.visualize.images, self.average
                )
            )
        if comm.is_main_process():
            logs = writers(self.output_dir, train.max_iter)
            registered.append(hooks.PeriodicWriter(logs, period=train.log_period))
            registered.append(hooks.PeriodicWriter([ProgressBar(train.max_iter)], period=1))
            registered.append(Curves(period or train.checkpointer.period, str(self.output_dir)))

        # last, so that what a checkpoint holds includes what the other hooks remember of this iteration
        registered.append(hooks.PeriodicCheckpointer(checkpointer, train.checkpointer.period))
        registered.append(SaveOnSignal(checkpointer))
        trainer.register_hooks(registered)


def _build_scheduler(cfg: DictConfig, optimizer: torch.optim.Optimizer) -> Any:
    from detectron2.solver.lr_scheduler import LRMultiplier

    return LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), cfg.train.max_iter)


def _without_sync_bn(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.SyncBatchNorm):
        sizes = module.num_features, module.eps, module.momentum, module.affine
        if isinstance(module, SyncBatchNormAct):  # timm's, with the activation inside
            plain: nn.Module = BatchNormAct2d(*sizes)
            plain.act, plain.drop = module.act, module.drop
        else:
            plain = nn.BatchNorm2d(*sizes)
        plain.load_state_dict(module.state_dict())
        return plain
    for name, child in module.named_children():
        setattr(module, name, _without_sync_bn(child))
    return module
