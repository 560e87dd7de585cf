"""Panoptic quality, with either release of Detectron2 and without the package ``panopticapi``."""

import contextlib
import io
import itertools
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..detectron2_wheel.added.panoptic_api import id2rgb, pq_compute
from ..files import write_json

_KINDS = {"All": "", "Things": "_th", "Stuff": "_st"}


class PanopticEvaluator(COCOPanopticEvaluator):
    """Detectron2's evaluator of panoptic segmentation (PQ, SQ and RQ of all classes, things and stuff, in
    percent), which ours differs from in two ways.

    Upstream's newest version needs ``panopticapi``, which is not on PyPI; here that is used where it is
    installed. And images of one name in several folders do not share a predicted PNG, of which the last
    would count for all of them.

    Args:
        dataset_name: a registered set with ``panoptic_json`` and ``panoptic_root``.
        output_dir: for ``predictions.json``; the PNGs are not kept.
    """

    def metric_names(self) -> list[str]:
        """What ``evaluate`` measures, as ``panoptic_seg/PQ``."""
        return [f"panoptic_seg/{metric}{kind}" for kind in _KINDS.values() for metric in ("PQ", "SQ", "RQ")]

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Keep the segments of each image, as a PNG of their numbers and a list."""
        for item, output in zip(inputs, outputs, strict=True):
            numbers, segments = output["panoptic_seg"]
            numbers = numbers.cpu().numpy()
            if segments is None:
                numbers, segments = self._from_labels(numbers)
            with io.BytesIO() as png:
                Image.fromarray(id2rgb(numbers)).save(png, format="PNG")
                found = png.getvalue()
            self._predictions.append(
                {
                    "image_id": item["image_id"],
                    "file_name": Path(item["file_name"]).stem,
                    "png_string": found,
                    "segments_info": [self._convert_category_id(dict(segment)) for segment in segments],
                }
            )

    def _from_labels(self, labels: np.ndarray) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """Segments of a map of ``category * label_divisor + instance``, -1 where there is none, as models
        give them that list none."""
        things = self._metadata.thing_dataset_id_to_contiguous_id.values()
        segments = []
        for label in np.unique(labels[labels >= 0]).tolist():
            category = label // self._metadata.label_divisor
            segments.append({"id": label + 1, "category_id": category, "isthing": category in things})
        return labels + 1, segments

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """The metrics under ``panoptic_seg``; None but in the main process. All processes call it."""
        comm.synchronize()
        gathered = comm.gather(self._predictions)
        if not comm.is_main_process():
            return None
        truth = PathManager.get_local_path(self._metadata.panoptic_json)
        with tempfile.TemporaryDirectory(prefix="panoptic_eval") as folder:
            entries, taken = [], set[str]()
            for prediction in itertools.chain(*gathered):
                entry = {**prediction, "file_name": _free_name(prediction["file_name"], taken)}
                (Path(folder) / entry["file_name"]).write_bytes(entry.pop("png_string"))
                entries.append(entry)
            content = json.loads(Path(truth).read_text(encoding="utf-8"))
            listed = Path(self._output_dir or folder) / "predictions.json"
            write_json(listed, {**content, "annotations": entries}, indent=None)
            root = PathManager.get_local_path(self._metadata.panoptic_root)
            with contextlib.redirect_stdout(io.StringIO()):  # panopticapi prints its progress
                found = pq_compute(truth, str(listed), gt_folder=root, pred_folder=folder)
        return {
            "panoptic_seg": {
                f"{metric.upper()}{kind}": 100 * found[name][metric]
                for name, kind in _KINDS.items()
                for metric in ("pq", "sq", "rq")
            }
        }


def _free_name(stem: str, taken: set[str]) -> str:
    """A PNG's name that no other has, also where capitals make no difference."""
    name, number = f"{stem}.png", 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}_{number}.png"
    taken.add(name.lower())
    return name
