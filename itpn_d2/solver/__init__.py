"""Optimizer groups and weight averaging."""

from .batch_rule import factor_of, rate_factor, scale_rates
from .ema import WeightAverage
from .layer_decay import group_table, layer_id, parameter_groups, parameter_rules

__all__ = [
    "WeightAverage",
    "factor_of",
    "group_table",
    "layer_id",
    "parameter_groups",
    "parameter_rules",
    "rate_factor",
    "scale_rates",
]
