"""How every key of a Detectron2 yacs config is treated: used, ignored with a warning, or refused."""

import logging
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from detectron2.config import CfgNode, get_cfg

from ..backbone.yacs import add_itpn_config
from ..errors import ConfigError

logger = logging.getLogger(__name__)


class Fate(NamedTuple):
    """``kind`` is ``used``, ``ignored`` or ``refused``; ``note`` says why, or what to write instead."""

    kind: str
    note: str = ""


def _ignored(note: str) -> Fate:
    return Fate("ignored", note)


def _refused(note: str) -> Fate:
    return Fate("refused", note)


_USED = Fate("used")
_PROPOSALS = _ignored("it is needed only for precomputed proposals, which are not supported here")
_CONFIG = "a LazyConfig (configs/) can do it"

# The first pattern that fits decides; the keys that Detectron2's main branch has beyond 0.6 are among them.
FATES: dict[str, Fate] = {
    "VERSION": _USED,
    "OUTPUT_DIR": _USED,
    "SEED": _USED,
    "VIS_PERIOD": _USED,
    "CUDNN_BENCHMARK": _USED,
    "FLOAT32_PRECISION": _USED,
    "GLOBAL.HACK": _ignored("nothing reads it"),
    # the model, which Detectron2 builds from these sections
    "MODEL.LOAD_PROPOSALS": _refused("precomputed proposals are not read; leave it at False with an RPN"),
    "MODEL.DEVICE": _USED,
    "MODEL.MASK_ON": _USED,
    "MODEL.KEYPOINT_ON": _USED,
    "MODEL.META_ARCHITECTURE": _USED,
    "MODEL.WEIGHTS": _USED,
    "MODEL.PIXEL_MEAN": _USED,
    "MODEL.PIXEL_STD": _USED,
    "MODEL.BACKBONE.*": _USED,
    "MODEL.FPN.*": _USED,
    "MODEL.RESNETS.*": _USED,
    "MODEL.PROPOSAL_GENERATOR.*": _USED,
    "MODEL.ANCHOR_GENERATOR.*": _USED,
    "MODEL.RPN.*": _USED,
    "MODEL.ROI_HEADS.*": _USED,
    "MODEL.ROI_BOX_HEAD.*": _USED,
    "MODEL.ROI_BOX_CASCADE_HEAD.*": _USED,
    "MODEL.ROI_MASK_HEAD.*": _USED,
    "MODEL.ROI_KEYPOINT_HEAD.*": _USED,
    "MODEL.SEM_SEG_HEAD.*": _USED,
    "MODEL.PANOPTIC_FPN.COMBINE.ENABLED": _ignored("the branches are always combined, in Detectron2 too"),
    "MODEL.PANOPTIC_FPN.*": _USED,
    "MODEL.RETINANET.*": _USED,
    "MODEL.ITPN.*": _USED,
    "MODEL.TIMM.*": _USED,
    "MODEL.CLASSIFIER.*": _USED,
    # the data
    "INPUT.MIN_SIZE_TRAIN": _USED,
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": _USED,
    "INPUT.MAX_SIZE_TRAIN": _USED,
    "INPUT.MIN_SIZE_TEST": _USED,
    "INPUT.MAX_SIZE_TEST": _USED,
    "INPUT.RANDOM_FLIP": _USED,
    "INPUT.CROP.*": _USED,
    "INPUT.FORMAT": _USED,
    "INPUT.MASK_FORMAT": _USED,
    "DATASETS.TRAIN": _USED,
    "DATASETS.TEST": _USED,
    "DATASETS.*PROPOSAL*": _PROPOSALS,
    "DATALOADER.NUM_WORKERS": _USED,
    "DATALOADER.ASPECT_RATIO_GROUPING": _USED,
    "DATALOADER.SAMPLER_TRAIN": _USED,
    "DATALOADER.REPEAT_THRESHOLD": _USED,
    "DATALOADER.REPEAT_SQRT": _refused(
        "here, images are always repeated by the square root; leave it at True"
    ),
    "DATALOADER.FILTER_EMPTY_ANNOTATIONS": _USED,
    # the optimizer
    "SOLVER.OPTIMIZER": _USED,
    "SOLVER.LAYER_DECAY": _USED,
    "SOLVER.LR_SCHEDULER_NAME": _USED,
    "SOLVER.MAX_ITER": _USED,
    "SOLVER.BASE_LR": _USED,
    "SOLVER.BASE_LR_END": _USED,
    "SOLVER.MOMENTUM": _USED,
    "SOLVER.NESTEROV": _USED,
    "SOLVER.WEIGHT_DECAY": _USED,
    "SOLVER.WEIGHT_DECAY_NORM": _refused("here, norms have no weight decay; leave it at 0.0"),
    "SOLVER.WEIGHT_DECAY_BIAS": _USED,
    "SOLVER.GAMMA": _USED,
    "SOLVER.STEPS": _USED,
    "SOLVER.NUM_DECAYS": _USED,
    "SOLVER.WARMUP_FACTOR": _USED,
    "SOLVER.WARMUP_ITERS": _USED,
    "SOLVER.WARMUP_METHOD": _USED,
    "SOLVER.RESCALE_INTERVAL": _refused(
        "a schedule begins with the run, not behind the warm-up: leave it out"
    ),
    "SOLVER.CHECKPOINT_PERIOD": _USED,
    "SOLVER.IMS_PER_BATCH": _USED,
    "SOLVER.REFERENCE_WORLD_SIZE": _refused(
        "nothing is scaled by the number of processes: IMS_PER_BATCH is the total of all, with the BASE_LR "
        "and MAX_ITER that belong to it"
    ),
    "SOLVER.BIAS_LR_FACTOR": _refused("here, biases have the learning rate of their layer; leave it at 1.0"),
    "SOLVER.CLIP_GRADIENTS.*": _USED,
    "SOLVER.AMP.ENABLED": _USED,
    # evaluation
    "TEST.EXPECTED_RESULTS": _ignored("results are not compared; see results.json"),
    "TEST.EVAL_PERIOD": _USED,
    "TEST.KEYPOINT_OKS_SIGMAS": _USED,
    "TEST.DETECTIONS_PER_IMAGE": _USED,
    "TEST.AUG.*": _USED,
    "TEST.PRECISE_BN.ENABLED": _refused(f"batch norms keep their running statistics; {_CONFIG} without them"),
    "TEST.PRECISE_BN.NUM_ITER": _ignored("only PRECISE_BN.ENABLED needs it"),
}


def fate_of(key: str) -> Fate | None:
    """How a key is treated; None if it is not listed."""
    return next((fate for pattern, fate in FATES.items() if fnmatchcase(key, pattern)), None)


def leaves(node: CfgNode, key: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of a config with their values."""
    for name, value in node.items():
        inner = f"{key}.{name}" if key else name
        if isinstance(value, CfgNode):
            yield from leaves(value, inner)
        else:
            yield inner, value


def changed(cfg: CfgNode) -> dict[str, Any]:
    """The keys whose values are not the defaults."""
    usual = dict(leaves(add_itpn_config(get_cfg())))
    return {key: value for key, value in leaves(cfg) if key not in usual or usual[key] != value}


def check_fates(cfg: CfgNode, path: str) -> None:
    """Warn of changed keys that are ignored.

    Raises:
        ConfigError: a changed key is refused or not listed.
    """
    for key, value in changed(cfg).items():
        fate = _of_choice(cfg, key) or fate_of(key)
        if fate is None:
            raise ConfigError(f"{path}: {key}={value!r}: this key is not known here; remove it, or {_CONFIG}")
        if fate.kind == "refused":
            raise ConfigError(f"{path}: {key}={value!r}: {fate.note}")
        if fate.kind == "ignored":
            logger.warning("%s: %s=%r is ignored: %s", path, key, value, fate.note)


def is_ours(cfg: CfgNode) -> bool:
    """Whether the backbone is one of this project's."""
    return cfg.MODEL.BACKBONE.NAME.startswith(("build_itpn_", "build_timm_"))


def _of_choice(cfg: CfgNode, key: str) -> Fate | None:
    """Keys of other backbones and optimizers that the chosen ones do not read."""
    name = cfg.MODEL.BACKBONE.NAME
    if cfg.SOLVER.OPTIMIZER == "AdamW" and key in ("SOLVER.MOMENTUM", "SOLVER.NESTEROV"):
        return _ignored("AdamW does not use it; only SOLVER.OPTIMIZER=SGD does")
    if is_ours(cfg) and key == "MODEL.BACKBONE.FREEZE_AT":
        section = "ITPN" if "itpn" in name else "TIMM"
        return _ignored(f"{name} reads MODEL.{section}.FREEZE_AT")
    if is_ours(cfg) and key.startswith("MODEL.RESNETS."):
        return _ignored(f"{name} has no ResNet")
    if name == "build_itpn_backbone" and key.startswith("MODEL.FPN."):
        return _ignored("the pyramid is the backbone's own: MODEL.ITPN.FPN_DIM, FPN_DEPTH")
    return None
