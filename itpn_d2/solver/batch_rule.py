"""The learning rate for a batch size other than the one it was chosen for."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch

Rule = Literal["linear", "sqrt"]


def rate_factor(batch: int, reference: int | None, rule: Rule = "linear") -> float:
    """The factor on a learning rate that was chosen for ``reference`` images per step, for ``batch`` images.

    Args:
        reference: None leaves the rate as it is.
        rule: ``linear`` (Goyal et al., 2017), or ``sqrt``, the square root of it, which keeps the noise of
            an adaptive optimizer's steps (Malladi et al., 2022; DINOv2).
    """
    if reference is None or reference == batch:
        return 1.0
    ratio = batch / reference
    return math.sqrt(ratio) if rule == "sqrt" else ratio


def factor_of(loader: Mapping[str, Any]) -> float:
    """:func:`rate_factor` of ``dataloader.train``."""
    return rate_factor(
        loader["total_batch_size"], loader.get("reference_batch"), loader.get("reference_rule") or "linear"
    )


def scale_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply the rates of all groups; before a schedule takes note of them."""
    for settings in (optimizer.defaults, *optimizer.param_groups):
        if "lr" in settings:
            settings["lr"] = settings["lr"] * factor
