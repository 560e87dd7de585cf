"""The evaluators of datasets that other programs have registered, chosen by their metadata."""

from collections.abc import Sequence

from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
)

from ..data.lvis_package import require_lvis
from ..errors import ConfigError
from .evaluator import DetectionEvaluator
from .panoptic import PanopticEvaluator
from .semantic import SemanticEvaluator

_PANOPTIC = "coco_panoptic_seg"


def build_registered_evaluator(
    dataset_name: str,
    output_dir: str | None = None,
    panoptic: bool = False,
    keypoint_sigmas: Sequence[float] | None = None,
) -> DatasetEvaluator:
    """What measures a model on a registered set, as Detectron2's ``tools/train_net.py`` chooses it.

    Args:
        panoptic: the model finds panoptic segments: panoptic quality is measured, too, and of the semantic
            branch the mIoU.
        keypoint_sigmas: see :class:`.DetectionEvaluator`.

    Raises:
        DatasetError: the package of LVIS can't be used.
        ConfigError: the set's kind can't be evaluated here, or is not panoptic.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", "coco")
    if panoptic:
        if kind != _PANOPTIC:
            raise ConfigError(
                f"dataset {dataset_name!r} (evaluator_type {kind!r}) has no panoptic labels, against "
                "which a PanopticFPN is evaluated: use a panoptic dataset, such as "
                "coco_2017_val_panoptic_separated"
            )
        return DatasetEvaluators(
            [
                DetectionEvaluator(dataset_name, output_dir, keypoint_sigmas=keypoint_sigmas),
                SemanticEvaluator(dataset_name, output_dir),
                PanopticEvaluator(dataset_name, output_dir),
            ]
        )
    if kind in ("coco", _PANOPTIC):
        return DetectionEvaluator(dataset_name, output_dir, keypoint_sigmas=keypoint_sigmas)
    if kind == "sem_seg":
        return SemanticEvaluator(dataset_name, output_dir)
    if kind == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset_name)
    if kind == "lvis":
        require_lvis(dataset_name)
        return LVISEvaluator(dataset_name, output_dir=output_dir)
    raise ConfigError(
        f"dataset {dataset_name!r}: datasets with evaluator_type {kind!r} can't be evaluated here, only "
        f"those with coco, {_PANOPTIC}, sem_seg, pascal_voc and lvis"
    )
