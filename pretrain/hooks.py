"""The hooks of a pre-training run."""

import gc
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from fvcore.common.checkpoint import PeriodicCheckpointer
from torch import nn

from itpn_d2.data import as_classes
from itpn_d2.engine.hooks import not_worth_a_run
from itpn_d2.engine.parallel import gathered
from itpn_d2.evaluation import write_results
from itpn_d2.solver import WeightAverage

from .data import ImageDataset, ImageSource, TestView, build_image_loader
from .epochs import Clock
from .methods import Method
from .probe import TrunkFeatures, extract_features, knn_accuracy
from .visualize import draw_predictions, to_panels

logger = logging.getLogger(__name__)


class MethodSteps(HookBase):
    """Tells the method how far the run is, and writes the epoch into the metrics."""

    def __init__(self, method: Method, clock: Clock):
        self.method, self.clock = method, clock

    def after_step(self) -> None:
        """Tell the method the epochs done, and put them into the metrics as ``epoch``."""
        epoch = self.clock.epoch(self.trainer.iter + 1)
        self.method.after_step(epoch)
        self.trainer.storage.put_scalar("epoch", epoch, smoothing_hint=False)


class FollowSize(HookBase):
    """At the start of a stage with another image size, makes positions, windows and relative tables follow.

    A table of a new shape is a new parameter: it takes the old one's place in the optimizer, without moments.
    Several processes exchange the gradients of the parameters that their wrapper was given: it is made anew.

    Args:
        distribute: wraps the method for several processes.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.Optimizer,
        clock: Clock,
        average: WeightAverage | None = None,
        distribute: Callable[[Method], nn.Module] | None = None,
    ):
        self.method, self.optimizer, self.clock, self.average = method, optimizer, clock, average
        self.distribute = distribute

    def before_step(self) -> None:
        """Before the first step of a later stage, fit method, average, optimizer and wrapper to its size."""
        segment = self.clock.segment(self.trainer.iter)
        if segment.start != self.trainer.iter or segment is self.clock.segments[0]:
            return
        logger.info("Epoch %d: images of %d pixels, batch %d", segment.epoch, segment.size, segment.batch)
        before = dict(self.method.named_parameters())
        replaced = self.method.set_input_size((segment.size, segment.size))
        if self.average is not None:
            averaged: Any = self.average.module
            averaged.set_input_size((segment.size, segment.size))
        after = dict(self.method.named_parameters())
        for name in replaced:
            replace_parameter(self.optimizer, before[name], after[name])
        if replaced and self.trainer.model is not self.method and self.distribute is not None:
            # the old wrapper lets go of the parameters when it is gone
            self.trainer.model = self.method
            gc.collect()
            self.trainer.model = self.distribute(self.method).train()


def replace_parameter(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter) -> None:
    """Put ``new`` in the group of ``old``, which leaves with its moments."""
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    optimizer.state.pop(old, None)


class EpochCheckpoints(HookBase):
    """``model_<iteration>.pth`` every so many epochs, of which the last few are kept, and
    ``model_final.pth``."""

    def __init__(self, checkpointer: Any, clock: Clock, period: float):
        self.clock, self.period = clock, period
        self.writer = PeriodicCheckpointer(checkpointer, 1, clock.max_iter)

    def after_step(self) -> None:
        """Write a checkpoint where one is due: after each period (0: none) and after the last step."""
        if self.clock.due(self.trainer.iter, self.period or self.clock.epochs):
            self.writer.step(self.trainer.iter)


class Origin:
    """The origin of a checkpoint; it is written with every checkpoint and never read back into a run."""

    def __init__(self, **facts: Any):
        self.facts = facts
        self.epochs = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The facts, and ``epochs_done``."""
        return {**self.facts, "epochs_done": self.epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing: the run that goes on states its own."""


class OriginEpochs(HookBase):
    """Keeps the number of epochs of an :class:`Origin` up to date."""

    def __init__(self, origin: Origin, clock: Clock):
        self.origin, self.clock = origin, clock

    def after_step(self) -> None:
        """Note the epochs done."""
        self.origin.epochs = self.clock.epoch(self.trainer.iter + 1)


class Pictures(HookBase):
    """Every so many epochs, ``predictions_<epoch>.png`` (and ``predictions.png``): what the method predicts
    of the same few images under the same masks."""

    def __init__(
        self, method: Method, source: ImageSource, clock: Clock, period: float, images: int, output_dir: Path
    ):
        self.method, self.source, self.clock, self.period = method, source, clock, period
        self.count, self.output_dir = min(images, len(source)), output_dir

    def after_step(self) -> None:
        """Draw the pictures where they are due, in the main process; collective."""
        if not (self.count and self.clock.due(self.trainer.iter, self.period)):
            return
        with gathered(self.trainer):
            self._draw_in_main()

    def _draw_in_main(self) -> None:
        if comm.is_main_process():
            with not_worth_a_run("predictions"):
                epoch = self.clock.epoch(self.trainer.iter + 1)
                path = self.output_dir / f"predictions_{round(epoch):04d}.png"
                self.draw(path)
                shutil.copyfile(path, path.with_name("predictions.png"))

    def draw(self, path: Path) -> None:
        """Write the picture to ``path``."""
        view = TestView(self.clock.segment(self.trainer.iter).size, crop_fraction=1.0)
        images = ImageDataset(self.source, view)
        places = [i * len(self.source) // self.count for i in range(self.count)]
        batch = {"image": torch.stack([images[i]["image"] for i in places]).to(self.method.pixel_mean.device)}
        training = self.method.training
        self.method.eval()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            predicted = self.method.predict(batch)
        self.method.train(training)
        normalised = getattr(getattr(self.method, "target", None), "normalise", True)
        mean, std = (t.flatten().tolist() for t in (self.method.pixel_mean, self.method.pixel_std))
        draw_predictions(to_panels(predicted, bool(normalised), mean, std), path)
        logger.info("Predictions drawn: %s", path)


class NearestNeighbours(HookBase):
    """Every so many epochs, the k-NN accuracy of the trunk's mean tokens on labelled images, as ``knn/top1``.

    All processes work, each on its share of the images, with loading workers.
    """

    def __init__(
        self,
        method: Method,
        clock: Clock,
        period: float,
        train: ImageSource,
        test: ImageSource,
        size: int,
        neighbours: int,
        dtype: torch.dtype,
        workers: int = 0,
    ):
        self.workers = workers
        self.method, self.clock, self.period = method, clock, period
        self.train, self.test, self.size = train, test, size
        self.neighbours, self.dtype = neighbours, dtype

    def after_step(self) -> None:
        """Measure the accuracy where it is due, and put it into the metrics and the log; collective."""
        if not self.clock.due(self.trainer.iter, self.period):
            return
        with gathered(self.trainer):
            accuracy = self.measure()
        self.trainer.storage.put_scalars(
            smoothing_hint=False, **{f"knn/{name}": value for name, value in accuracy.items()}
        )
        logger.info("k-NN accuracy: %s", ", ".join(f"{k} {v:.2f}" for k, v in accuracy.items()))

    def measure(self) -> dict[str, float]:
        """Accuracies in percent by name; collective."""
        backbone: Any = self.method.backbone
        mean, std = (t.flatten().tolist() for t in (self.method.pixel_mean, self.method.pixel_std))
        model = TrunkFeatures(backbone.trunk, mean, std)
        device = self.method.pixel_mean.device
        found = []
        for source in (self.train, self.test):
            loader = build_image_loader(source, TestView(self.size), 64, self.workers)
            found.append(extract_features(model, loader, device, self.dtype))
        (train, train_labels), (test, test_labels) = found
        test_labels = as_classes(test_labels, self.test, self.train.classes)
        return knn_accuracy(train, train_labels, test, test_labels, self.neighbours, shared=True)


def write_summary(path: Path, storage: Any) -> dict[str, float]:
    """``results.json``: the last value of every metric of the run."""
    latest = {k: float(v[0]) for k, v in storage.latest().items()}
    write_results(path, latest)
    return latest
