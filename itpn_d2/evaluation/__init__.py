"""Evaluators, the results table, and pictures of a run."""

from .curves import plot_curves, read_metrics
from .evaluator import build_evaluator
from .results import flatten, table, write_results
from .visualize import prediction_grid, save_prediction_grid

__all__ = [
    "build_evaluator",
    "flatten",
    "plot_curves",
    "prediction_grid",
    "read_metrics",
    "save_prediction_grid",
    "table",
    "write_results",
]
