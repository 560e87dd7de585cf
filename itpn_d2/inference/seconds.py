"""How long the parts of a model take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..backbone import Trunk
from ..backbone.pyramid import IntegralPyramid
from ..engine.parts import find_part

Seconds = dict[str, float]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def stages_of(model: nn.Module, device: torch.device) -> Iterator[Seconds]:
    """Seconds of what is called within: ``trunk``, ``pyramid`` and ``heads`` (all the rest of the model);
    of a model without such parts ``backbone`` or ``model`` alone. A GPU is waited for, which costs a
    little."""
    trunk, pyramid = find_part(model, Trunk), find_part(model, IntegralPyramid)
    parts: dict[str, nn.Module] = {}
    if trunk is not None:
        parts["trunk"] = trunk
    elif isinstance(backbone := getattr(model, "backbone", None), nn.Module):
        parts["backbone"] = backbone
    if pyramid is not None:
        parts["pyramid"] = pyramid
    spent: Seconds = dict.fromkeys([*parts, "model"], 0.0)
    started: Seconds = {}

    def hooks(name: str, module: nn.Module) -> list:
        def before(*_: object) -> None:
            started[name] = _now(device)

        def after(*_: object) -> None:
            spent[name] += _now(device) - started[name]

        return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    handles = [handle for name, part in [*parts.items(), ("model", model)] for handle in hooks(name, part)]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()
        if parts:
            spent["heads"] = spent.pop("model") - sum(spent[name] for name in parts)
