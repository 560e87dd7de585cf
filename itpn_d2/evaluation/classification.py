"""Top-1 and top-5 accuracy of classifiers."""

import csv
import io
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..files import write_text

_TOP = 5
Row = tuple[str, int, list[int], float, float]  # file, label, best classes, score of the best, loss


class ClassificationEvaluator(DatasetEvaluator):
    """Accuracy over a registered set of labelled images, in percent, and mean cross-entropy.

    ``top5`` only where there are more than five classes; ``mean_class_top1`` is the mean over the classes
    that the set has images of. An image is counted once; ``images_not_read`` are not counted.

    Args:
        output_dir: gets ``predictions.csv``; None for no file.
        per_class: also ``top1-<class>`` for each class (nan where there is no image).
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None, per_class: bool = False):
        self.dataset_name, self.output_dir, self.per_class = dataset_name, output_dir, per_class
        self.classes: list[str] = list(MetadataCatalog.get(dataset_name).thing_classes)
        self.reset()

    def metric_names(self) -> list[str]:
        """What :meth:`evaluate` measures, as ``classification/top1``."""
        names = ["top1", "mean_class_top1", "loss", "images_not_read"]
        names += ["top5"] if len(self.classes) > _TOP else []
        names += [f"top1-{name}" for name in self.classes] if self.per_class else []
        return [f"classification/{name}" for name in names]

    def reset(self) -> None:
        """Forget the images counted so far."""
        self._rows: dict[int, Row] = {}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Note the best classes and the loss of each image; one that was seen before is replaced.

        Raises:
            ValueError: the model scores another number of classes than the dataset has.
        """
        for given, found in zip(inputs, outputs, strict=True):
            scores = found["scores"].detach().float().cpu()
            if len(scores) != len(self.classes):
                raise ValueError(
                    f"the model scores {len(scores)} classes, but dataset {self.dataset_name!r} has "
                    f"{len(self.classes)}: set model.network.num_classes"
                )
            best = scores.topk(min(_TOP, len(scores)))
            loss = -float(scores[given["label"]].clamp_min(torch.finfo(torch.float32).tiny).log())
            row = (given["file_name"], given["label"], best.indices.tolist(), float(best.values[0]), loss)
            self._rows[given["image_id"]] = row

    def evaluate(self) -> OrderedDict[str, dict[str, float]]:
        """``{"classification": {"top1": ...}}`` in the main process, empty in the others; collective.

        Raises:
            ValueError: there was no image.
        """
        rows: dict[int, Row] = {}
        for part in comm.gather(self._rows):
            rows.update(part)
        if not comm.is_main_process():
            return OrderedDict()
        if not rows:
            raise ValueError(f"dataset {self.dataset_name!r}: no image was evaluated")
        ordered = [rows[i] for i in sorted(rows)]
        if self.output_dir is not None:
            write_text(Path(self.output_dir) / "predictions.csv", self._table(ordered))
        missing = len(DatasetCatalog.get(self.dataset_name)) - len(ordered)
        return OrderedDict(classification={**self._metrics(ordered), "images_not_read": float(missing)})

    def _metrics(self, rows: list[Row]) -> dict[str, float]:
        labels = torch.tensor([row[1] for row in rows])
        best = torch.tensor([row[2] for row in rows])
        hits = (best == labels[:, None]).double()
        metrics = {"top1": 100 * hits[:, 0].mean().item()}
        if len(self.classes) > _TOP:
            metrics["top5"] = 100 * hits.sum(1).mean().item()
        counts = torch.bincount(labels, minlength=len(self.classes))
        right = torch.bincount(labels, hits[:, 0], minlength=len(self.classes))
        accuracy = 100 * right / counts  # nan for a class without image
        metrics["mean_class_top1"] = accuracy[counts > 0].mean().item()
        metrics["loss"] = sum(row[4] for row in rows) / len(rows)
        if self.per_class:
            metrics.update({f"top1-{n}": a for n, a in zip(self.classes, accuracy.tolist(), strict=True)})
        return metrics

    def _table(self, rows: list[Row]) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("file_name", "label", "prediction", "score"))
        for file, label, best, score, _ in rows:
            writer.writerow((file, self.classes[label], self.classes[best[0]], f"{score:.4f}"))
        return text.getvalue()
