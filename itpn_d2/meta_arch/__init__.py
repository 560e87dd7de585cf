"""Meta-architectures that Detectron2 lacks; importing this registers them."""

from .batch_augmentation import BatchAugmentation
from .dense import FCOS, RetinaNet
from .dino import DINO
from .image_classifier import ImageClassifier
from .image_segmentor import ImageSegmentor
from .mask_dino import MaskDINO

__all__ = [
    "DINO",
    "FCOS",
    "BatchAugmentation",
    "ImageClassifier",
    "ImageSegmentor",
    "MaskDINO",
    "RetinaNet",
]
