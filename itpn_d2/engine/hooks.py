"""What happens between iterations, beyond Detectron2's own hooks."""

import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn

from ..backbone import Trunk
from ..checkpoint import Checkpointer
from ..evaluation import flatten, is_better, plot_curves, save_exit_picture, save_prediction_grid
from ..files import written_whole
from ..solver import WeightAverage
from .calls import find_part
from .exits import token_exits
from .precision import autocast

logger = logging.getLogger(__name__)
_ONE_REQUEST = 3.0  # seconds
_EXITS = 4  # images in the picture of tokens that left
_RANDOM_LAYERS = (
    "BatchAugmentation",
    "BatchNorm1d",
    "BatchNorm2d",
    "DropPath",
    "Dropout",
    "Dropout2d",
    "SyncBatchNorm",
)


def due(iteration: int, period: int, max_iter: int) -> bool:
    """Whether something with ``period`` (0: never) happens after ``iteration``; always after the last."""
    return period > 0 and ((iteration + 1) % period == 0 or iteration + 1 >= max_iter)


@contextmanager
def not_worth_a_run(what: str) -> Iterator[None]:
    """A picture that can't be drawn is said, and training goes on."""
    try:
        yield
    except Exception:
        logger.exception("%s could not be drawn; training goes on", what)


class ScheduledRate(hooks.LRScheduler):
    """Detectron2's hook for the learning rate, whose rates are those of the config also after a resume: of a
    checkpoint it takes the place in the schedule alone."""

    def before_train(self) -> None:
        super().before_train()
        rates = self.scheduler.get_lr()
        for group, rate in zip(self.trainer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scheduler.last_epoch = state_dict["last_epoch"]


class Evaluation(HookBase):
    """Every ``period`` iterations and at the end, ``evaluate()``'s metrics into the storage, e.g. as
    ``bbox/AP``.

    Detectron2's own hook leaves the last evaluation until after the loop, when the best checkpoint, the
    writers and the curves are done.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict[str, Any]]):
        self.period, self.evaluate = period, evaluate

    def after_step(self) -> None:
        if due(self.trainer.iter, self.period, self.trainer.max_iter):
            metrics = flatten(self.evaluate())
            self.trainer.storage.put_scalars(**metrics, smoothing_hint=False)
            comm.synchronize()


class ValidationLoss(HookBase):
    """Every ``period`` iterations, the losses on ``loader`` as ``val_loss`` and ``val/<part>``.

    The model stays in training mode, because detectors return losses only there; its random layers and batch
    norms are switched to evaluation, and no state changes.
    """

    def __init__(self, period: int, loader: Iterable, model: nn.Module, dtype: torch.dtype):
        self.period, self.loader, self.model, self.dtype = period, loader, model, dtype

    def after_step(self) -> None:
        if not due(self.trainer.iter, self.period, self.trainer.max_iter):
            return
        quiet = [m for m in self.model.modules() if type(m).__name__ in _RANDOM_LAYERS and m.training]
        for module in quiet:
            module.eval()
        device = next(self.model.parameters()).device
        sums: dict[str, float] = {}
        count = 0
        # a storage of its own: heads record their training statistics as they go
        with EventStorage(0), torch.no_grad(), torch.random.fork_rng(), autocast(device, self.dtype):
            torch.manual_seed(0)  # proposals are sampled: the same sample each time
            for batch in self.loader:
                for name, loss in self.model(batch).items():
                    sums[name] = sums.get(name, 0.0) + loss.item() * len(batch)
                count += len(batch)
        for module in quiet:
            module.train()
        parts = comm.gather((sums, count))
        if not comm.is_main_process():
            return
        total = sum(c for _, c in parts)
        if total == 0:
            return
        names = {name for s, _ in parts for name in s}
        means = {name: sum(s.get(name, 0.0) for s, _ in parts) / total for name in sorted(names)}
        storage = self.trainer.storage
        storage.put_scalars(
            smoothing_hint=False, val_loss=sum(means.values()), **{f"val/{k}": v for k, v in means.items()}
        )


class BestCheckpoint(HookBase):
    """Keep ``model_best.pth``: the weights with the best value so far of a named metric.

    ``metric`` is a key as in metrics.json, e.g. ``segm/AP`` or ``ema/segm/AP``; the latter saves the averaged
    weights.
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
        if not due(self.trainer.iter, self.period, self.trainer.max_iter) or not comm.is_main_process():
            return
        latest = self.trainer.storage.latest()
        if self.metric not in latest:
            known = ", ".join(
                k for k in latest if "/AP" in k or "loss" in k or k.endswith(("mIoU", "PQ", "top1"))
            )
            logger.warning("train.best_metric=%s was not measured; there are: %s", self.metric, known)
            return
        value, iteration = latest[self.metric]
        if iteration != self.trainer.iter or not is_better(value, self.best, self.mode):
            return
        self.best, self.best_iteration = float(value), int(iteration)
        if self.average is not None:
            with self.average.swapped_into(self.trainer.bare_model):
                self.checkpointer.save_weights("model_best", metric=self.metric, value=self.best)
        else:
            self.checkpointer.save_weights("model_best", metric=self.metric, value=self.best)
        logger.info("Best %s so far: %.3f, saved as model_best.pth", self.metric, self.best)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_iteration": self.best_iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_iteration = state["best"], state["best_iteration"]


class VisualizePredictions(HookBase):
    """Every ``period`` iterations, ``predictions_<iteration>.png`` (and ``predictions.png``): ground truth
    beside prediction on ``images`` pictures, spread evenly over the validation data. Where tokens migrate,
    also ``exits.png``: which of them left at which depth."""

    def __init__(
        self,
        period: int,
        cfg: DictConfig,
        model: nn.Module,
        dtype: torch.dtype,
        images: int = 8,
        average: WeightAverage | None = None,
    ):
        self.period, self.cfg, self.model, self.dtype = period, cfg, model, dtype
        self.images, self.average = images, average

    def after_step(self) -> None:
        if due(self.trainer.iter, self.period, self.trainer.max_iter) and comm.is_main_process():
            with not_worth_a_run("predictions"):
                drawn = self.draw(f"predictions_{self.trainer.iter + 1:07d}.png")
                with written_whole(drawn.with_name("predictions.png")) as partial:
                    shutil.copyfile(drawn, partial)

    def draw(self, name: str) -> Path:
        """Write the picture into ``train.output_dir`` and return its path."""
        dataset = self.cfg.dataset.val.name
        known = DatasetCatalog.get(dataset)
        count = min(self.images, len(known))
        records = [known[i * len(known) // count] for i in range(count)]
        mapper = instantiate(self.cfg.dataloader.test.mapper)
        batch = [mapper(record) for record in records]
        if self.average is not None:
            with self.average.swapped_into(self.model):
                predictions = self._predict(batch)
        else:
            predictions = self._predict(batch)
        path = Path(self.cfg.train.output_dir) / name
        save_prediction_grid(path, records, predictions, MetadataCatalog.get(dataset))
        logger.info("Predictions drawn: %s", path)
        self._draw_exits(path.with_name("exits.png"), batch)
        return path

    @torch.no_grad()
    def _predict(self, batch: list[dict]) -> list[dict]:
        with self._evaluating():
            # one by one: what fits in a training batch may not fit at test size
            return [self.model([item])[0] for item in batch]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        with autocast(next(self.model.parameters()).device, self.dtype):
            yield
        self.model.train(was_training)

    @torch.no_grad()
    def _draw_exits(self, path: Path, batch: list[dict]) -> None:
        """Of the weights as they are, also where predictions are of their average."""
        trunk = find_part(self.model, Trunk)
        if trunk is None or trunk.migration is None:
            return
        images, exits = [], []
        with self._evaluating():
            for item in batch[:_EXITS]:
                image, blocks = token_exits(self.model, trunk, item)
                images.append(image)
                exits.append(blocks)
        save_exit_picture(path, images, exits, trunk.depths[2])
        logger.info("Tokens that left drawn: %s", path)


class Curves(HookBase):
    """Keep ``curves.png`` (losses, learning rate, metrics over iterations) up to date."""

    def __init__(self, period: int, output_dir: str):
        self.period, self.output_dir = period, Path(output_dir)

    def after_step(self) -> None:
        if due(self.trainer.iter, self.period, self.trainer.max_iter) and comm.is_main_process():
            with not_worth_a_run("curves"):
                plot_curves(self.output_dir / "metrics.json", self.output_dir / "curves.png")


class SaveBeforeEvaluation(HookBase):
    """Before every evaluation, a checkpoint: an evaluation that fails costs no training.

    ``period`` is that of the evaluation. The last one is preceded by ``model_final``.
    """

    def __init__(self, period: int, checkpointer: Checkpointer):
        self.period, self.checkpointer = period, checkpointer

    def after_step(self) -> None:
        done, end = self.trainer.iter, self.trainer.max_iter
        if due(done, self.period, end):
            name = "model_final" if done + 1 >= end else f"model_{done:07d}"
            self.checkpointer.save(name, iteration=done)


class SaveOnSignal(HookBase):
    """On SIGTERM or Ctrl-C finish the iteration, save a checkpoint and leave, so that ``--resume`` loses
    nothing.

    A second request does not wait for the end of the iteration. What comes within ``_ONE_REQUEST`` seconds is
    the same request: a process gets it from its group and again from the process that started it.
    """

    def __init__(self, checkpointer: Checkpointer):
        self.checkpointer = checkpointer
        self._received: float | None = None  # when, on the monotonic clock
        self._previous: dict[int, Any] = {}

    def before_train(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread of a process can have handlers
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self._received is None:
            self._received = now
            logger.warning("signal %d: stopping after this iteration, with a checkpoint", number)
        elif now - self._received > _ONE_REQUEST:
            raise KeyboardInterrupt

    def after_step(self) -> None:
        received = self._received is not None
        if comm.get_world_size() > 1:
            received = any(comm.all_gather(received))
        if received:
            self.checkpointer.save(f"model_{self.trainer.iter:07d}", iteration=self.trainer.iter)
            self.trainer.stop_requested = True

    def after_train(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
