"""Meta-architectures that Detectron2 lacks; importing this registers them."""

from .batch_augmentation import BatchAugmentation
from .dense import FCOS, RetinaNet
from .dino import DINO
from .image_classifier import ImageClassifier
from .image_segmentor import ImageSegmentor
from .mask_dino import MaskDINO
from .rcnn import GeneralizedRCNN, PanopticFPN, ProposalNetwork

__all__ = [
    "DINO",
    "FCOS",
    "BatchAugmentation",
    "GeneralizedRCNN",
    "ImageClassifier",
    "ImageSegmentor",
    "MaskDINO",
    "PanopticFPN",
    "ProposalNetwork",
    "RetinaNet",
]
