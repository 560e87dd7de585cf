"""Training and evaluation of the model that a LazyConfig describes, as run by ``train_net.py``."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from omegaconf import DictConfig

from ..checkpoint import Checkpointer, Classes
from ..data import prepare_datasets
from ..errors import ConfigError
from ..lazy.build import build
from .evaluate import check_evaluation, evaluate
from .fingerprint import Fingerprint
from .hooks import Evaluation, ValidationLoss
from .pictures import VisualizePredictions
from .run import BaseRun
from .saving import BestCheckpoint, SaveBeforeEvaluation
from .start import named_weights
from .trainer import Trainer


class Run(BaseRun):
    """Training of a detector, segmentor or classifier on registered datasets; or its evaluation alone.

    :meth:`train` returns the results of the last evaluation (empty when evaluation is off).
    """

    _dynamic_sizes = True

    def __init__(self, cfg: DictConfig, evaluate_only: bool = False, skip_bad_records: bool = False):
        self._is_training = not evaluate_only
        self.evaluate_only = evaluate_only  # then the training set is not asked for
        self.skip_bad_records = skip_bad_records  # as the sets of the config may have it for themselves
        super().__init__(cfg)
        self._evaluated: OrderedDict[str, Any] = OrderedDict()

    def _prepare_data(self) -> None:
        prepare_datasets(self.cfg.dataset, self.evaluate_only, self.skip_bad_records)

    def load_weights(self, what: str) -> None:
        """Load ``train.init_checkpoint`` for evaluation.

        Raises:
            ConfigError: none is given; the message says that ``what`` needs one. CheckpointError: it is
                not complete (``train.allow_incomplete=True`` accepts it), or was trained with other classes.
        """
        checkpoint = named_weights(self.cfg)
        if not checkpoint:
            raise ConfigError(
                f"{what} needs weights: train.init_checkpoint=FILE, or MODEL.WEIGHTS=FILE with a yacs config"
            )
        complete = not self.cfg.train.get("allow_incomplete", False)
        Checkpointer(self.model, classes=self._classes()).load(checkpoint, [], complete)
        self.model.eval()

    def evaluate(self) -> OrderedDict[str, Any]:
        """``--eval-only``: load ``train.init_checkpoint`` and evaluate it; draws predictions too."""
        with self.lock:
            self._write_config()
            self.load_weights("--eval-only")
            results = evaluate(self.cfg, self.model, self.dtype)
            images = self.cfg.train.visualize.images
            if comm.is_main_process() and images:
                drawer = VisualizePredictions(0, self.cfg, self.model, self.dtype, images)
                print(f"predictions: {drawer.draw('predictions.png')}")
        return results

    def _build_checkpointer(self, trainer: Trainer | None) -> Checkpointer:
        return Checkpointer(
            self.model,
            str(self.output_dir),
            self.cfg.train.checkpointer.max_to_keep,
            self._classes(),
            self.cfg.train.checkpointer.sharded,
            **({} if trainer is None else {"trainer": trainer}),
            fingerprint=Fingerprint(self.cfg),
        )

    def _classes(self) -> Classes:
        dataset = self.cfg.dataset
        return Classes(dataset.get("class_names"), dataset.get("semantic_class_names"))

    def _batches(self, start: int) -> Iterator[Any]:
        total, accumulate = self.cfg.dataloader.train.total_batch_size, self.cfg.train.accumulate
        if total % accumulate:
            raise ConfigError(
                f"dataloader.train.total_batch_size={total} is not divisible by train.accumulate={accumulate}"
            )
        loader = self.cfg.dataloader.train.copy()
        loader._set_parent(self.cfg.dataloader)  # interpolations reach the whole config
        loader.total_batch_size = total // accumulate
        loader.start_iter = start * accumulate
        return self._without_notes(build(loader))

    def _without_notes(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, with ``instead_of`` recorded and removed from their samples."""
        for batch in batches:
            if isinstance(batch, list):
                for sample in batch:
                    self.broken.add(sample.pop("instead_of", ()))
            yield batch

    def _hooks(self, trainer: Trainer, checkpointer: Checkpointer) -> list[Any]:
        cfg, train = self.cfg, self.cfg.train

        def evaluate_now() -> OrderedDict[str, Any]:
            self._evaluated = evaluate(cfg, self.model, self.dtype, self.average)
            return self._evaluated

        found: list[Any] = []
        period = train.eval_period
        if period:
            check_evaluation(cfg)
            if train.validation_loss:
                loader = build(cfg.dataloader.val_loss)
                found.append(ValidationLoss(period, loader, self.model, self.dtype))
            found.append(SaveBeforeEvaluation(period, checkpointer))
            found.append(Evaluation(period, evaluate_now))
            if train.best_metric:
                mode = "min" if train.best_metric.startswith("val") else "max"  # val_loss, val/<part>
                found.append(BestCheckpoint(period, train.best_metric, checkpointer, self.average, mode))
        if train.visualize.period:
            found.append(
                VisualizePredictions(
                    train.visualize.period, cfg, self.model, self.dtype, train.visualize.images, self.average
                )
            )
        return found

    def _curves_period(self) -> int:
        return self.cfg.train.eval_period or self.cfg.train.checkpointer.period

    def _periodic_checkpoints(self, checkpointer: Checkpointer) -> HookBase:
        return hooks.PeriodicCheckpointer(checkpointer, self.cfg.train.checkpointer.period)

    def _results(self, trainer: Trainer) -> dict[str, Any]:
        return self._evaluated
