"""Evaluation on some of a dataset's images."""

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from detectron2.evaluation import DatasetEvaluator, SemSegEvaluator
from torch.utils.data import DataLoader, Subset


def spread(loader: DataLoader, count: int) -> DataLoader:
    """A loader of ``count`` images of a test loader, as far apart in its dataset as can be; all of them where
    there are no more. For one process: what a sampler of several leaves to others is not known here.

    Raises:
        ValueError: ``count`` is below 1, or the dataset is empty.
    """
    total = len(loader.dataset)  # type: ignore[arg-type]
    count = min(count, total)
    if count < 1:
        raise ValueError(f"{count} images of a dataset of {total}: nothing to evaluate")
    chosen = Subset(loader.dataset, [i * total // count for i in range(count)])
    return DataLoader(
        chosen,
        batch_size=loader.batch_size,
        collate_fn=loader.collate_fn,
        num_workers=loader.num_workers,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )


class _Restricted(DatasetEvaluator):
    """COCO's evaluation of the images that were processed: by itself it counts all of the dataset."""

    def __init__(self, evaluator: Any):
        self.evaluator = evaluator
        self.seen: list[Any] = []

    def reset(self) -> None:
        self.evaluator.reset()
        self.seen = []

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        self.seen += [record["image_id"] for record in inputs]
        self.evaluator.process(inputs, outputs)

    def evaluate(self) -> OrderedDict[str, Any]:
        return self.evaluator.evaluate(img_ids=self.seen)


def restricted(evaluator: DatasetEvaluator) -> DatasetEvaluator:
    """An evaluator that counts only the images it is given.

    Raises:
        ValueError: it is of a kind that compares with the whole dataset.
    """
    if "img_ids" in inspect.signature(evaluator.evaluate).parameters:
        return _Restricted(evaluator)
    if isinstance(evaluator, SemSegEvaluator):  # adds up what it is given
        return evaluator
    raise ValueError(
        f"{type(evaluator).__name__} compares with the whole dataset: it can't evaluate some of its images"
    )
