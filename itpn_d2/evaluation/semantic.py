"""Mean intersection over union of semantic segmentation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import SemSegEvaluator

from ..data.labels import IGNORED, read_labels


class SemanticEvaluator(SemSegEvaluator):
    """Detectron2's SemSegEvaluator (mIoU, fwIoU, mACC, pACC, and IoU and accuracy of every class, in percent)
    for label images of any kind that :class:`.Labelling` describes.

    Args:
        dataset_name: a registered set with ``sem_seg_file_name``.
        output_dir: for the metrics, ``sem_seg_evaluation.pth``, and the predictions.
        save_predictions: keep every predicted mask, run-length encoded, for ``sem_seg_predictions.json``: at
            least a mask for each class of each image.
    """

    def __init__(self, dataset_name: str, output_dir: str | None = None, save_predictions: bool = False):
        super().__init__(dataset_name, distributed=True, output_dir=output_dir)
        self._records = {record["file_name"]: record for record in DatasetCatalog.get(dataset_name)}
        self._save_predictions = save_predictions
        self._compute_boundary_iou = False  # in upstream's newer version: it reads the label images itself

    def metric_names(self) -> list[str]:
        """What ``evaluate`` measures, as ``sem_seg/mIoU``."""
        classes = [f"{kind}-{name}" for kind in ("IoU", "ACC") for name in self._class_names]
        return [f"sem_seg/{metric}" for metric in ("mIoU", "fwIoU", "mACC", "pACC", *classes)]

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Count the pixels of each pair of classes.

        Raises:
            DatasetError: labels can't be read. ValueError: the prediction has another size than they.
        """
        count = self._num_classes + 1
        for item, output in zip(inputs, outputs, strict=True):
            predicted = output["sem_seg"].argmax(dim=0).cpu().numpy().astype(np.int64)
            labels = read_labels(self._records[item["file_name"]]).astype(np.int64)
            if predicted.shape != labels.shape:
                raise ValueError(
                    f"{item['file_name']}: predicted {predicted.shape} pixels (height, width), "
                    f"but the labels have "
                    f"{labels.shape}"
                )
            labels[labels == IGNORED] = self._num_classes
            pairs = np.bincount((count * predicted + labels).ravel(), minlength=count**2)
            self._conf_matrix += pairs.reshape(count, count)
            if self._save_predictions:
                self._predictions.extend(self.encode_json_sem_seg(predicted, item["file_name"]))
