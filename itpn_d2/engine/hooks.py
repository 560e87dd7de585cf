"""What happens between iterations, beyond Detectron2's own hooks."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ..evaluation import flatten, plot_curves
from .parallel import gathered
from .precision import autocast

logger = logging.getLogger(__name__)
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
    """Log a picture that can't be drawn, and let training continue."""
    try:
        yield
    except Exception:
        logger.exception("%s could not be drawn; training continues", what)


class ScheduledRate(hooks.LRScheduler):
    """Detectron2's hook for the learning rate, whose rates are those of the config also after a resume: the
    place in the schedule is the iteration, whatever a checkpoint holds."""

    def before_train(self) -> None:
        """Set the rates of the optimizer to the config's for the iteration that the run starts at."""
        super().before_train()
        self.scheduler.last_epoch = self.trainer.start_iter
        rates = self.scheduler.get_lr()
        for group, rate in zip(self.trainer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the place in the schedule from a checkpoint, and nothing else."""
        # a run that is at its end already is saved without training
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
        """When it is due, evaluate and put the metrics into the storage."""
        if due(self.trainer.iter, self.period, self.trainer.max_iter):
            with gathered(self.trainer):
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
        """When it is due, put the losses into the storage: means over the images of all processes."""
        if not due(self.trainer.iter, self.period, self.trainer.max_iter):
            return
        quiet = [m for m in self.model.modules() if type(m).__name__ in _RANDOM_LAYERS and m.training]
        for module in quiet:
            module.eval()
        device = next(self.model.parameters()).device
        sums: dict[str, float] = {}
        count = 0
        # a storage of its own: heads record their training statistics as they go
        with (
            gathered(self.trainer),
            EventStorage(0),
            torch.no_grad(),
            torch.random.fork_rng(),
            autocast(device, self.dtype),
        ):
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


class Curves(HookBase):
    """Keep ``curves.png`` (losses, learning rate, metrics over iterations) up to date."""

    def __init__(self, period: int, output_dir: str):
        self.period, self.output_dir = period, Path(output_dir)

    def after_step(self) -> None:
        """When it is due, draw the curves from ``metrics.json``, in the main process."""
        if due(self.trainer.iter, self.period, self.trainer.max_iter) and comm.is_main_process():
            with not_worth_a_run("curves"):
                plot_curves(self.output_dir / "metrics.json", self.output_dir / "curves.png")
