"""Meta-architectures that Detectron2 lacks; importing this registers them."""

from .batch_augmentation import BatchAugmentation
from .dense import FCOS, RetinaNet
from .image_classifier import ImageClassifier
from .image_segmentor import ImageSegmentor

__all__ = ["FCOS", "BatchAugmentation", "ImageClassifier", "ImageSegmentor", "RetinaNet"]
