"""Evaluators, the results table, and pictures of a run."""

from .by_type import build_registered_evaluator
from .classification import ClassificationEvaluator
from .curves import plot_curves, read_metrics
from .drawing import draw_labels, draw_prediction, semantic_map
from .evaluator import DetectionEvaluator, build_evaluator
from .label_grid import label_grid
from .panoptic import PanopticEvaluator
from .results import flatten, is_better, named_metric, table, write_results
from .segmentation_grid import segmentation_grid
from .semantic import SemanticEvaluator
from .subset import restricted, spread
from .tokens import exit_picture, save_exit_picture
from .visualize import prediction_grid, save_prediction_grid

__all__ = [
    "ClassificationEvaluator",
    "DetectionEvaluator",
    "PanopticEvaluator",
    "SemanticEvaluator",
    "build_evaluator",
    "build_registered_evaluator",
    "draw_labels",
    "draw_prediction",
    "exit_picture",
    "flatten",
    "is_better",
    "label_grid",
    "named_metric",
    "plot_curves",
    "prediction_grid",
    "read_metrics",
    "restricted",
    "save_exit_picture",
    "save_prediction_grid",
    "segmentation_grid",
    "semantic_map",
    "spread",
    "table",
    "write_results",
]
