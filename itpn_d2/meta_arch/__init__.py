"""Meta-architectures that Detectron2 lacks; importing this registers them."""

from .batch_augmentation import BatchAugmentation
from .dino import DINO
from .image_classifier import ImageClassifier
from .mask_dino import MaskDINO

__all__ = ["DINO", "BatchAugmentation", "ImageClassifier", "MaskDINO"]
