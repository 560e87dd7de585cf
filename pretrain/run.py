"""Pre-train what a LazyConfig describes: the work behind ``python -m pretrain``."""

import argparse
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.engine import hooks
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.utils import comm
from omegaconf import DictConfig, OmegaConf

from itpn_d2.backbone import Trunk
from itpn_d2.checkpoint import load_state_file
from itpn_d2.data import labelled_source
from itpn_d2.engine import Trainer, load_config
from itpn_d2.engine.config import save_config
from itpn_d2.engine.fingerprint import Fingerprint
from itpn_d2.engine.hooks import Curves, SaveOnSignal
from itpn_d2.engine.prepare import distribute, prepare, say_where, writers
from itpn_d2.engine.progress import ProgressBar
from itpn_d2.engine.seed import seed_step
from itpn_d2.errors import ConfigError, config_errors
from itpn_d2.solver import WeightAverage, group_table, parameter_rules, rule_options

from .clock import Clock, ClockedScheduler
from .data import BrokenImages, build_pretrain_loader
from .hooks import (
    EpochCheckpoints,
    FollowSize,
    MethodSteps,
    NearestNeighbours,
    Origin,
    OriginEpochs,
    Pictures,
    write_summary,
)
from .loading import MethodCheckpointer
from .methods import Method
from .schedule import ProgressiveSchedule

logger = logging.getLogger(__name__)


class PretrainRun:
    """Everything of one pre-training run. Building it lists the images.

    Args:
        cfg: as from :func:`itpn_d2.engine.load_config`. ``train.output_dir`` is made and gets
            ``config.yaml``, ``log.txt``, ``metrics.json``, ``results.json``, checkpoints and pictures.
    """

    def __init__(self, cfg: DictConfig):
        self.cfg = cfg
        self.lock, self.device, self.dtype = prepare(cfg)
        self.output_dir = self.lock.folder
        self.source = instantiate(cfg.dataset.train)
        logger.info("Images: %s", self.source.summary)
        self._set_learning_rate()
        self.clock = self._build_clock()
        cfg.train.max_iter = self.clock.max_iter
        if comm.is_main_process():
            save_config(cfg, self.output_dir / "config.yaml")
        seed_step(cfg.train.seed)
        with config_errors("model"):
            self.method: Method = instantiate(cfg.model).to(self.device)
        trained = sum(p.numel() for p in self.method.parameters() if p.requires_grad)
        logger.info("%s with %.2f M trained parameters", type(self.method).__name__, trained / 1e6)
        ema = cfg.train.ema
        self.average = WeightAverage(self.method, ema.decay) if ema.enabled else None
        self.broken = BrokenImages(self.source)

    def _set_learning_rate(self) -> None:
        base, batch = self.cfg.train.base_lr, self.cfg.dataloader.train.total_batch_size
        if base is not None:
            self.cfg.optimizer.lr = base * batch / 256
            logger.info(
                "Learning rate %.3g: %.3g per 256 images, %d images", self.cfg.optimizer.lr, base, batch
            )

    def _build_clock(self) -> Clock:
        cfg, loader = self.cfg, self.cfg.dataloader.train
        stages = cfg.train.progressive
        try:
            schedule = None
            if stages:
                entries: Any = OmegaConf.to_container(stages)
                schedule = ProgressiveSchedule(entries, cfg.train.size_divisor)
            size, batch = loader.view.get("size", 224), loader.total_batch_size
            return Clock(len(self.source), cfg.train.epochs, size, batch, cfg.optimizer.lr, schedule)
        except ValueError as error:
            raise ConfigError(f"train.progressive, train.epochs or the batch: {error}") from error

    def train(self, resume: bool = False) -> dict[str, float]:
        """Train for ``train.epochs``; with ``resume`` from the last checkpoint in the output folder, if there
        is one.

        Returns the last value of every metric.
        """
        with self.lock:
            return self._train(resume)

    def _train(self, resume: bool) -> dict[str, float]:
        cfg = self.cfg
        origin = self._origin()
        start = self._start(resume)
        size = self.clock.segment(start).size
        for follower in (self.method, self.average.module if self.average is not None else None):
            if isinstance(follower, Method):
                follower.set_input_size((size, size))  # before a state of that size is loaded
        cfg.optimizer.params.model = self.method
        with config_errors("optimizer"):
            optimizer = instantiate(cfg.optimizer)
        cfg.optimizer.params.model = None
        if cfg.train.show_groups:
            rules = parameter_rules(self.method, **rule_options(cfg.optimizer.params))
            logger.info("Parameter groups\n%s", group_table(rules, cfg.optimizer.lr))
        trainer = Trainer(
            distribute(self.method, cfg, self.device),
            optimizer,
            self.dtype,
            cfg.train.accumulate,
            cfg.train.clip_grad_norm,
            self.average,
            cfg.train.seed,
        )
        checkpointer = MethodCheckpointer(
            self.method,
            str(self.output_dir),
            cfg.train.checkpointer.max_to_keep,
            trainer=trainer,
            pretraining=origin,
            fingerprint=Fingerprint(cfg, images=len(self.source)),
        )
        self._register_hooks(trainer, optimizer, checkpointer, origin)
        if start:
            checkpointer.resume_or_load("", resume=True)
        elif cfg.train.init_checkpoint:
            checkpointer.load(cfg.train.init_checkpoint, checkpointables=[])
            if self.average is not None:
                self.average.load_state_dict(self.method.state_dict())
        if start >= self.clock.max_iter:
            logger.info("Nothing to do: %d of %d iterations are done", start, self.clock.max_iter)
            checkpointer.complete(start - 1)
            return {}
        trainer.set_data(self._batches(start))
        trainer.train(start, self.clock.max_iter)
        return self._end(trainer)

    def _start(self, resume: bool) -> int:
        """The first iteration to run."""
        tag = self.output_dir / "last_checkpoint"
        if not (resume and tag.is_file()):
            return 0
        return int(load_state_file(self.output_dir / tag.read_text().strip())["iteration"]) + 1

    def _origin(self) -> Origin:
        cfg = self.cfg
        return Origin(
            method=type(self.method).__name__,
            config=(self.output_dir / "config.yaml").read_text() if comm.is_main_process() else "",
            data=dict(self.source.summary),
            epochs=int(cfg.train.epochs),
            pixel_mean=self.method.pixel_mean.flatten().tolist(),
            pixel_std=self.method.pixel_std.flatten().tolist(),
        )

    def _batches(self, start: int) -> Iterator[dict[str, Any]]:
        """Micro-batches from iteration ``start`` on, segment by segment, on the device."""
        accumulate = self.cfg.train.accumulate
        for number, segment in enumerate(self.clock.segments):
            if start >= segment.stop:
                continue
            if segment.batch % accumulate:
                raise ConfigError(
                    f"a batch of {segment.batch} images is not divisible by train.accumulate={accumulate}"
                )
            options = self.cfg.dataloader.train
            view_cfg = options.view.copy()
            view_cfg.size = segment.size
            view_cfg.seed = self.cfg.train.seed
            first = max(start, segment.start)
            loader = build_pretrain_loader(
                self.source,
                instantiate(view_cfg),
                segment.batch // accumulate,
                options.num_workers,
                # another order in every segment
                self.cfg.train.seed + 7919 * number,
                (first - segment.start) * accumulate,
            )
            batches = iter(loader)
            for _ in range((segment.stop - first) * accumulate):
                batch = next(batches)
                self.broken.add(batch)
                yield {
                    k: v.to(self.device, non_blocking=True) if isinstance(v, torch.Tensor) else v
                    for k, v in batch.items()
                }

    def _register_hooks(
        self,
        trainer: Trainer,
        optimizer: torch.optim.Optimizer,
        checkpointer: MethodCheckpointer,
        origin: Origin,
    ) -> None:
        cfg, train = self.cfg, self.cfg.train
        schedule = ClockedScheduler(instantiate(cfg.lr_multiplier), self.clock)
        registered: list[Any] = [
            hooks.IterationTimer(),
            FollowSize(
                self.method,
                optimizer,
                self.clock,
                self.average,
                partial(distribute, cfg=cfg, device=self.device),
            ),
            hooks.LRScheduler(optimizer, LRMultiplier(optimizer, schedule, self.clock.max_iter)),
            MethodSteps(self.method, self.clock),
            OriginEpochs(origin, self.clock),
        ]
        neighbours = self._neighbours()
        if neighbours is not None:
            registered.append(neighbours)
        shown = train.visualize
        registered.append(
            Pictures(self.method, self.source, self.clock, shown.epochs, shown.images, self.output_dir)
        )
        if comm.is_main_process():
            logs = writers(self.output_dir, self.clock.max_iter)
            registered.append(hooks.PeriodicWriter(logs, period=train.log_period))
            registered.append(hooks.PeriodicWriter([ProgressBar(self.clock.max_iter)], period=1))
            registered.append(Curves(self.clock.segments[0].steps_per_epoch, str(self.output_dir)))

        # last, so that what a checkpoint holds includes what the other hooks remember of this iteration
        registered.append(EpochCheckpoints(checkpointer, self.clock, train.checkpointer.epochs))
        registered.append(SaveOnSignal(checkpointer))
        trainer.register_hooks(registered)

    def _neighbours(self) -> NearestNeighbours | None:
        knn = self.cfg.train.knn
        if not knn.epochs:
            return None
        if not (knn.train and knn.test):
            raise ConfigError("train.knn.epochs needs labelled images: train.knn.train= and train.knn.test=")
        if not isinstance(getattr(self.method.backbone, "trunk", None), Trunk):
            raise ConfigError("train.knn.epochs: k-NN is measured on the trunks of this project only")
        return NearestNeighbours(
            self.method,
            self.clock,
            knn.epochs,
            labelled_source(knn.train),
            labelled_source(knn.test),
            knn.image_size or self.clock.segments[0].size,
            knn.neighbours,
            self.dtype,
        )

    def _end(self, trainer: Trainer) -> dict[str, float]:
        self.broken.gather()
        if not comm.is_main_process():
            return {}
        logger.info("Images: %s", self.broken.report())
        if len(self.broken):
            self.broken.write(self.output_dir / "broken_images.txt")
        if trainer.stop_requested:
            logger.info("Stopped after iteration %d; go on with --resume", trainer.iter - 1)
            return {}
        results = write_summary(self.output_dir / "results.json", trainer.storage)
        say_where(self.output_dir)
        return results


def main(arguments: argparse.Namespace) -> None:
    """What each process of ``python -m pretrain`` runs; here, since spawned processes can't import from the
    ``__main__`` of a package."""
    cfg = load_config(arguments.config_file, arguments.opts)
    cfg.train.show_groups = cfg.train.show_groups or arguments.show_groups
    PretrainRun(cfg).train(resume=arguments.resume)
