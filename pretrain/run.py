"""Pre-training of the model that a LazyConfig describes, as run by ``python -m pretrain``."""

import argparse
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from fvcore.common.param_scheduler import ParamScheduler
from omegaconf import OmegaConf

from itpn_d2.backbone import Trunk
from itpn_d2.checkpoint import Checkpointer, last_checkpoint
from itpn_d2.checkpoint.resume import stored_iteration
from itpn_d2.data import labelled_source, read_once
from itpn_d2.engine import BaseRun, Trainer, load_config
from itpn_d2.engine.fingerprint import Fingerprint
from itpn_d2.engine.parallel import distribute
from itpn_d2.errors import ConfigError
from itpn_d2.lazy.build import build
from itpn_d2.solver import factor_of

from .data import build_pretrain_loader
from .epochs import Clock, ClockedScheduler
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


class PretrainRun(BaseRun):
    """Pre-training of a method on the images of a source, for ``train.epochs``.

    :meth:`train` returns the last value of every metric.
    """

    @property
    def method(self) -> Method:
        """The model, with the type that it has here."""
        assert isinstance(self.model, Method)
        return self.model

    def _prepare_data(self) -> None:
        self.source = read_once("the images", lambda: build(self.cfg.dataset.train))
        logger.info("Images: %s", self.source.summary)
        self._set_learning_rate()
        self.clock = self._build_clock()
        self.cfg.train.max_iter = self.clock.max_iter

    def _set_learning_rate(self) -> None:
        base, batch = self.cfg.train.base_lr, self.cfg.dataloader.train.total_batch_size
        if base is not None:
            self.cfg.optimizer.lr = base * batch / 256
            logger.info(
                "Learning rate %.3g: %.3g per 256 images, %d images", self.cfg.optimizer.lr, base, batch
            )

    def _length_rule(self, ratio: float) -> str:
        return ""  # it is counted in epochs

    def _build_clock(self) -> Clock:
        cfg, loader = self.cfg, self.cfg.dataloader.train
        stages = cfg.train.progressive
        try:
            schedule = None
            if stages:
                entries: Any = OmegaConf.to_container(stages)
                schedule = ProgressiveSchedule(entries, cfg.train.size_divisor)
            size, batch = loader.view.get("size", 224), loader.total_batch_size
            lr = cfg.optimizer.lr * factor_of(loader)  # of a stage with its own rate nothing is scaled
            return Clock(len(self.source), cfg.train.epochs, size, batch, lr, schedule)
        except ValueError as error:
            raise ConfigError(f"train.progressive, train.epochs or the batch: {error}") from error

    def _prepare_model(self, resume: bool) -> None:
        """Images may have grown before the run was interrupted: its state then has their size."""
        last = last_checkpoint(self.output_dir) if resume else None
        done = -1 if last is None else stored_iteration(last)
        size = self.clock.segment(done + 1).size
        for follower in (self.method, self.average.module if self.average is not None else None):
            if isinstance(follower, Method):
                follower.set_input_size((size, size))

    def _build_checkpointer(self, trainer: Trainer | None) -> Checkpointer:
        self.origin = self._origin()
        return MethodCheckpointer(
            self.method,
            str(self.output_dir),
            self.cfg.train.checkpointer.max_to_keep,
            sharded=self.cfg.train.checkpointer.sharded,
            **({} if trainer is None else {"trainer": trainer}),
            pretraining=self.origin,
            fingerprint=Fingerprint(self.cfg, images=len(self.source)),
        )

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
        """Segment by segment; sizes and batches may differ between segments."""
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
                build(view_cfg),
                segment.batch // accumulate,
                options.num_workers,
                # another order in every segment
                self.cfg.train.seed + 7919 * number,
                (first - segment.start) * accumulate,
            )
            batches = iter(loader)
            for _ in range((segment.stop - first) * accumulate):
                batch = next(batches)
                self.broken.add(batch.pop("broken"))
                batch["position"] = [(number << 40) + position for position in batch["position"]]
                yield batch

    def _schedule(self) -> ParamScheduler:
        return ClockedScheduler(super()._schedule(), self.clock)

    def _hooks(self, trainer: Trainer, checkpointer: Checkpointer) -> list[Any]:
        again = partial(distribute, cfg=self.cfg, device=self.device)
        found: list[Any] = [
            FollowSize(self.method, trainer.optimizer, self.clock, self.average, again),
            MethodSteps(self.method, self.clock),
            OriginEpochs(self.origin, self.clock),
        ]
        neighbours = self._neighbours()
        if neighbours is not None:
            found.append(neighbours)
        shown = self.cfg.train.visualize
        found.append(
            Pictures(self.method, self.source, self.clock, shown.epochs, shown.images, self.output_dir)
        )
        return found

    def _curves_period(self) -> int:
        return self.clock.segments[0].steps_per_epoch

    def _periodic_checkpoints(self, checkpointer: Checkpointer) -> HookBase:
        return EpochCheckpoints(checkpointer, self.clock, self.cfg.train.checkpointer.epochs)

    def _neighbours(self) -> NearestNeighbours | None:
        knn = self.cfg.train.knn
        if not knn.epochs:
            return None
        if not (knn.train and knn.test):
            raise ConfigError("train.knn.epochs needs labelled images: train.knn.train= and train.knn.test=")
        if not isinstance(getattr(self.method.backbone, "trunk", None), Trunk):
            raise ConfigError("train.knn.epochs: k-NN is supported only for trunks of this project")
        return NearestNeighbours(
            self.method,
            self.clock,
            knn.epochs,
            read_once("train.knn.train", lambda: labelled_source(knn.train)),
            read_once("train.knn.test", lambda: labelled_source(knn.test)),
            knn.image_size or self.clock.segments[0].size,
            knn.neighbours,
            self.dtype,
            self.cfg.dataloader.train.num_workers,
        )

    def _results(self, trainer: Trainer) -> dict[str, Any]:
        if not comm.is_main_process():
            return {}
        return write_summary(self.output_dir / "results.json", trainer.storage)


def main(arguments: argparse.Namespace) -> None:
    """What each process of ``python -m pretrain`` runs; here, since spawned processes can't import from the
    ``__main__`` of a package."""
    cfg = load_config(arguments.config_file, arguments.opts)
    cfg.train.show_groups = cfg.train.show_groups or arguments.show_groups
    PretrainRun(cfg).train(resume=arguments.resume)
