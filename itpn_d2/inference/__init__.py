"""Running trained models on images and videos."""

from ..data.read import read_image
from ..evaluation import draw_prediction, semantic_map
from .coco import Categories, ResultFiles, instance_results, panoptic_result, semantic_results
from .predictor import Prediction, Predictor

__all__ = [
    "Categories",
    "Prediction",
    "Predictor",
    "ResultFiles",
    "draw_prediction",
    "instance_results",
    "panoptic_result",
    "read_image",
    "semantic_map",
    "semantic_results",
]
