"""Datasets, mappers and loaders."""

from ..errors import DatasetError
from .arrow import hf_images
from .arrow_objects import register_hf
from .augmentation import (
    OneOf,
    custom_augmentations,
    detectron2_augmentations,
    lsj_augmentations,
    multiscale_crop_augmentations,
    semantic_augmentations,
    test_augmentations,
)
from .broken import BrokenImages
from .builtin import register_builtin, register_together
from .catalogs import has_annotations, has_masks
from .classification import LabelledImageMapper, LabelledRecords, register_labelled_images
from .coco_check import CheckedCoco, check_coco
from .custom import register_coco
from .labels import Labelling, read_labels
from .loader import build_test_loader, build_train_loader, build_val_loss_loader
from .mapper import TestMapper, TrainMapper
from .once import read_once
from .panoptic import register_panoptic
from .panoptic_check import check_panoptic
from .prepare import prepare_datasets
from .sampler import ResumableBatchSampler
from .scene_sets import register_scenes
from .scenes import generate_scenes
from .segmentation_mapper import PanopticMapper, SemanticMapper
from .semantic import register_ade20k, register_semantic
from .sources import as_classes, labelled_source

__all__ = [
    "BrokenImages",
    "CheckedCoco",
    "DatasetError",
    "LabelledImageMapper",
    "LabelledRecords",
    "Labelling",
    "OneOf",
    "PanopticMapper",
    "ResumableBatchSampler",
    "SemanticMapper",
    "TestMapper",
    "TrainMapper",
    "as_classes",
    "build_test_loader",
    "build_train_loader",
    "build_val_loss_loader",
    "check_coco",
    "check_panoptic",
    "custom_augmentations",
    "detectron2_augmentations",
    "generate_scenes",
    "has_annotations",
    "has_masks",
    "hf_images",
    "labelled_source",
    "lsj_augmentations",
    "multiscale_crop_augmentations",
    "prepare_datasets",
    "read_labels",
    "read_once",
    "register_ade20k",
    "register_builtin",
    "register_coco",
    "register_hf",
    "register_labelled_images",
    "register_panoptic",
    "register_scenes",
    "register_semantic",
    "register_together",
    "semantic_augmentations",
    "test_augmentations",
]
