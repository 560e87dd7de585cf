"""Meta-architectures that Detectron2 lacks; importing this registers them."""

from .batch_augmentation import BatchAugmentation
from .image_classifier import ImageClassifier

__all__ = ["BatchAugmentation", "ImageClassifier"]
