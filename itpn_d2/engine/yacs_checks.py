"""Checks of values of a yacs config that mean something else in Detectron2, or that are not supported
here."""

from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode, get_cfg

from ..data.labels import IGNORED
from ..errors import ConfigError
from .yacs_keys import is_ours

_SGD_RATE = 0.005  # no AdamW recipe of a transformer has one as large, and no SGD recipe one much smaller
_CHOICES: dict[str, tuple[Any, ...]] = {
    "SOLVER.OPTIMIZER": ("AdamW", "SGD"),
    "SOLVER.WARMUP_METHOD": ("linear", "constant"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"),
    "SOLVER.WEIGHT_DECAY_BIAS": (None, 0, 0.0),  # biases are not decayed here
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm", "full_model"),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "INPUT.MASK_FORMAT": ("polygon", "bitmask"),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice", "range"),
    "INPUT.CROP.TYPE": ("relative_range", "relative", "absolute", "absolute_range"),
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler", "RepeatFactorTrainingSampler"),
}
_DETECTRON2 = ("detectron2://", "catalog://", "https://dl.fbaipublicfiles.com/detectron2/")
_STATISTICS = ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.FORMAT")


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value at a full key."""
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def check_values(cfg: CfgNode, given: Collection[str], path: str) -> None:
    """
    Raises:
        ConfigError: with the key, its value, and what to write.
    """
    for key, allowed in _CHOICES.items():
        value = value_of(cfg, key)
        if value not in allowed:
            raise ConfigError(f"{path}: {key}={value!r}: choose from {', '.join(map(str, allowed))}")
    _check_model(cfg, path)
    _check_sets(cfg, path)
    _check_rate(cfg, path)
    _check_clipping(cfg, path)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and len(cfg.INPUT.MIN_SIZE_TRAIN) != 2:
        raise ConfigError(
            f"{path}: INPUT.MIN_SIZE_TRAIN_SAMPLING='range' "
            f"INPUT.MIN_SIZE_TRAIN={tuple(cfg.INPUT.MIN_SIZE_TRAIN)}: a range needs two values, the "
            "smallest and the largest"
        )
    if is_ours(cfg):
        _check_statistics(cfg, given, path)


def _check_model(cfg: CfgNode, path: str) -> None:
    kind, ignored = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    if kind == "ImageClassifier":
        raise ConfigError(
            f"{path}: MODEL.META_ARCHITECTURE={kind}: a yacs config can't name a dataset of labelled "
            "images; use a config of configs/ImageNet-Classification or Custom/classifier_*"
        )
    if kind in ("PanopticFPN", "SemanticSegmentor") and ignored != IGNORED:
        raise ConfigError(
            f"{path}: MODEL.SEM_SEG_HEAD.IGNORE_VALUE={ignored}: pixels without a class are {IGNORED} here"
        )


def _check_sets(cfg: CfgNode, path: str) -> None:
    if not cfg.DATASETS.TRAIN:
        raise ConfigError(f"{path}: DATASETS.TRAIN=(): name at least one registered dataset")
    if len(cfg.DATASETS.TEST) != 1:
        raise ConfigError(
            f"{path}: DATASETS.TEST={tuple(cfg.DATASETS.TEST)}: name one registered dataset; evaluate "
            "each of the others with --eval-only and DATASETS.TEST"
        )


def _check_rate(cfg: CfgNode, path: str) -> None:
    rate = cfg.SOLVER.BASE_LR
    if rate <= 0:
        raise ConfigError(f"{path}: SOLVER.BASE_LR={rate}: choose a value greater than 0")
    if cfg.SOLVER.OPTIMIZER == "AdamW" and rate >= _SGD_RATE:
        raise ConfigError(
            f"{path}: SOLVER.BASE_LR={rate}: this is a rate for SGD, but SOLVER.OPTIMIZER is AdamW: write "
            "SOLVER.BASE_LR=0.0001 and SOLVER.WEIGHT_DECAY=0.05, or SOLVER.OPTIMIZER=SGD to keep this "
            "rate"
        )
    if cfg.SOLVER.NESTEROV and cfg.SOLVER.MOMENTUM <= 0:
        raise ConfigError(
            f"{path}: SOLVER.NESTEROV=True SOLVER.MOMENTUM={cfg.SOLVER.MOMENTUM}: Nesterov "
            "needs momentum above 0"
        )


def _check_clipping(cfg: CfgNode, path: str) -> None:
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return
    if clip.CLIP_VALUE <= 0:
        raise ConfigError(
            f"{path}: SOLVER.CLIP_GRADIENTS.CLIP_VALUE={clip.CLIP_VALUE}: choose a value above 0"
        )
    if clip.CLIP_TYPE == "full_model" and clip.NORM_TYPE != 2:
        raise ConfigError(
            f"{path}: SOLVER.CLIP_GRADIENTS.NORM_TYPE={clip.NORM_TYPE}: gradients of the whole model are "
            "clipped by their 2-norm; set it to 2.0"
        )


def are_of_others(cfg: CfgNode) -> bool:
    """Whether ``MODEL.WEIGHTS`` are Detectron2's own, which are of ResNets, and the backbone is one of
    ours."""
    return is_ours(cfg) and cfg.MODEL.WEIGHTS.startswith(_DETECTRON2)


def _check_statistics(cfg: CfgNode, given: Collection[str], path: str) -> None:
    """Detectron2's defaults are those of a ResNet of Caffe: BGR, of which nothing but the mean is taken
    away. Our weights have seen RGB with torchvision's statistics."""
    if not cfg.MODEL.WEIGHTS or are_of_others(cfg):
        return
    usual = get_cfg()
    for key in _STATISTICS:
        if key not in given and value_of(cfg, key) == value_of(usual, key):
            raise ConfigError(
                f"{path}: MODEL.WEIGHTS={cfg.MODEL.WEIGHTS} with {key}={value_of(cfg, key)}, Detectron2's "
                f"default for its ResNets: write INPUT.FORMAT=RGB, MODEL.PIXEL_MEAN=[123.675,116.28,103.53] "
                f"and MODEL.PIXEL_STD=[58.395,57.12,57.375], or those that the weights were trained with"
            )
