"""Pictures of predictions, and of the tokens that migrate, while a model trains."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn

from ..backbone import Trunk
from ..evaluation import save_exit_picture, save_prediction_grid
from ..files import written_whole
from ..lazy.build import build
from ..solver import WeightAverage
from .hooks import due, not_worth_a_run
from .parallel import gathered
from .parts import find_part
from .precision import autocast
from .token_exits import token_exits

logger = logging.getLogger(__name__)
_EXITS = 4  # images in the picture of tokens that left


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
        """When it is due, write the pictures, in the main process."""
        if not due(self.trainer.iter, self.period, self.trainer.max_iter):
            return
        with gathered(self.trainer):
            self._draw_in_main()

    def _draw_in_main(self) -> None:
        if comm.is_main_process():
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
        mapper = build(self.cfg.dataloader.test.mapper)
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
        logger.info("Token migration drawn: %s", path)
