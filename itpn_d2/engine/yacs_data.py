"""``DATASETS``, ``DATALOADER``, ``INPUT`` and ``TEST`` of a yacs config as sections of a LazyConfig."""

import logging
from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode, LazyCall

from ..data import (
    SemanticMapper,
    TestMapper,
    TrainMapper,
    build_test_loader,
    build_train_loader,
    build_val_loss_loader,
    detectron2_augmentations,
    register_builtin,
    register_together,
    test_augmentations,
)
from ..evaluation import build_registered_evaluator
from .schema import Training

logger = logging.getLogger(__name__)
_DECODER = "${dataloader.decoder}"


def seed(cfg: CfgNode) -> int:
    """Detectron2 draws one where ``SEED`` is negative; here every run has one, so that it can be resumed and
    repeated."""
    if cfg.SEED >= 0:
        return int(cfg.SEED)
    usual = Training().seed
    logger.info("SEED=%d: the seed is %d, as in every run without a seed of its own", cfg.SEED, usual)
    return usual


def dataset(cfg: CfgNode) -> dict[str, Any]:
    """The registered sets and the number of classes of the model."""
    call, names = LazyCall, list(cfg.DATASETS.TRAIN)
    train = call(register_builtin)(name=names[0], skip_bad_records=False)
    if len(names) > 1:
        train = call(register_together)(name=_train_name(cfg), parts=names, skip_bad_records=False)
    found = dict(
        train=train,
        val=call(register_builtin)(name=cfg.DATASETS.TEST[0], skip_bad_records=False),
        num_classes=_num_classes(cfg),
        class_names=None,
    )
    if _is_panoptic(cfg):
        found["num_semantic_classes"] = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if cfg.MODEL.KEYPOINT_ON:
        found.update(num_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS, keypoint_flip=None)
    return found


def _is_semantic(cfg: CfgNode) -> bool:
    return bool(cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor")


def _is_panoptic(cfg: CfgNode) -> bool:
    return bool(cfg.MODEL.META_ARCHITECTURE == "PanopticFPN")


def _num_classes(cfg: CfgNode) -> int:
    sections = {"RetinaNet": "RETINANET", "SemanticSegmentor": "SEM_SEG_HEAD"}
    section = sections.get(cfg.MODEL.META_ARCHITECTURE, "ROI_HEADS")
    return int(cfg.MODEL[section].NUM_CLASSES)


def _train_name(cfg: CfgNode) -> str:
    return "+".join(cfg.DATASETS.TRAIN)


def _mapper(cfg: CfgNode, given: Collection[str], views: Any, number: int, **options: Any) -> Any:
    """What reads images with what the model learns of them."""
    call, channels = LazyCall, cfg.INPUT.FORMAT
    if _is_semantic(cfg):
        return call(SemanticMapper)(augmentations=views, image_format=channels, seed=number, decoder=_DECODER)
    found = call(TrainMapper)(
        augmentations=views,
        image_format=channels,
        seed=number,
        use_instance_mask=cfg.MODEL.MASK_ON,
        use_semantic=_is_panoptic(cfg),
        decoder=_DECODER,
        **options,
    )
    if "INPUT.MASK_FORMAT" in given:  # else each record has the one that fits
        found.instance_mask_format = cfg.INPUT.MASK_FORMAT
    if cfg.MODEL.KEYPOINT_ON:
        found.update(use_keypoint=True, keypoint_flip="${dataset.keypoint_flip}")
    return found


def dataloader(cfg: CfgNode, given: Collection[str], number: int) -> dict[str, Any]:
    """The loaders, whose seed is ``number``, the evaluator, and the views of ``TEST.AUG``."""
    call, inputs, loading = LazyCall, cfg.INPUT, cfg.DATALOADER
    once = call(test_augmentations)(short_side=inputs.MIN_SIZE_TEST, max_size=inputs.MAX_SIZE_TEST)
    crop, name = inputs.CROP, cfg.DATASETS.TEST[0]
    # as in Detectron2: without instances there is none to be empty; and its label images tell no sizes
    filter_empty = loading.FILTER_EMPTY_ANNOTATIONS and not _is_semantic(cfg)
    recompute = crop.ENABLED and cfg.MODEL.MASK_ON
    views = call(detectron2_augmentations)(
        short_sides=list(inputs.MIN_SIZE_TRAIN),
        max_size=inputs.MAX_SIZE_TRAIN,
        sampling=inputs.MIN_SIZE_TRAIN_SAMPLING,
        flip=inputs.RANDOM_FLIP,
        crop_type=crop.TYPE if crop.ENABLED else None,
        crop_size=list(crop.SIZE),
    )
    repeated = loading.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
    return dict(
        **_test_views(cfg),
        decoder="auto",
        train=call(build_train_loader)(
            dataset=_train_name(cfg),
            mapper=_mapper(cfg, given, views, number, recompute_boxes=recompute),
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            num_workers=loading.NUM_WORKERS,
            seed=number,
            aspect_ratio_grouping=loading.ASPECT_RATIO_GROUPING and not _is_semantic(cfg),
            filter_empty=filter_empty,
            repeat_threshold=loading.REPEAT_THRESHOLD if repeated else None,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
        ),
        test=call(build_test_loader)(
            dataset=name,
            mapper=call(TestMapper)(augmentations=once, image_format=inputs.FORMAT, decoder=_DECODER),
            num_workers=loading.NUM_WORKERS,
        ),
        val_loss=call(build_val_loss_loader)(
            dataset=name,
            mapper=_mapper(cfg, given, once, 0),
            batch_size=1,
            filter_empty=filter_empty,
        ),
        evaluator=call(build_registered_evaluator)(
            dataset_name=name,
            output_dir=None,
            panoptic=_is_panoptic(cfg),
            keypoint_sigmas=list(cfg.TEST.KEYPOINT_OKS_SIGMAS) or None,
        ),
    )


def _test_views(cfg: CfgNode) -> dict[str, Any]:
    """``TEST.AUG``: its short sides as shares of the largest, which has ``MAX_SIZE``."""
    aug = cfg.TEST.AUG
    if not aug.ENABLED:
        return {}
    largest = max(aug.MIN_SIZES)
    return dict(
        image=dict(test_short_side=largest, max_size=aug.MAX_SIZE),
        test_views=dict(enabled=True, scales=[size / largest for size in aug.MIN_SIZES], flip=aug.FLIP),
    )
