"""Optimizer groups and weight averaging."""

from .ema import WeightAverage
from .layer_decay import group_table, layer_id, parameter_groups, parameter_rules

__all__ = [
    "WeightAverage",
    "group_table",
    "layer_id",
    "parameter_groups",
    "parameter_rules",
]
