"""Datasets, mappers and loaders."""

from .augmentation import (
    OneOf,
    custom_augmentations,
    lsj_augmentations,
    multiscale_crop_augmentations,
    test_augmentations,
)
from .classification import LabelledImageMapper, LabelledRecords, register_labelled_images
from .coco_check import CheckedCoco, check_coco
from .errors import DatasetError
from .loader import build_test_loader, build_train_loader, build_val_loss_loader
from .mapper import TestMapper, TrainMapper
from .registry import has_masks, prepare_datasets, register_builtin, register_coco
from .sampler import ResumableBatchSampler
from .scenes import generate_scenes, register_scenes
from .sources import as_classes, labelled_source

__all__ = [
    "CheckedCoco",
    "DatasetError",
    "LabelledImageMapper",
    "LabelledRecords",
    "OneOf",
    "ResumableBatchSampler",
    "TestMapper",
    "TrainMapper",
    "as_classes",
    "build_test_loader",
    "build_train_loader",
    "build_val_loss_loader",
    "check_coco",
    "custom_augmentations",
    "generate_scenes",
    "has_masks",
    "labelled_source",
    "lsj_augmentations",
    "multiscale_crop_augmentations",
    "prepare_datasets",
    "register_builtin",
    "register_coco",
    "register_labelled_images",
    "register_scenes",
    "test_augmentations",
]
