"""Exponential moving average of a model's weights (timm's, with a warm-up and a switch for evaluation)."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.utils import ModelEmaV3
from torch import nn

from ..sharded import gathered_parts, load_whole


class WeightAverage:
    """Moving average of ``model``; ``decay`` is reached slowly (timm's warm-up), so short runs profit too."""

    def __init__(self, model: nn.Module, decay: float = 0.9998, warmup_gamma: float = 50.0):
        # of a model that has no values yet timm can't make the generator that it has for bfloat16 weights
        empty = next(model.parameters()).is_meta
        self.average = ModelEmaV3(
            nn.Linear(1, 1) if empty else model,
            decay=decay,
            use_warmup=True,
            warmup_gamma=warmup_gamma,
            warmup_power=2 / 3,
        )
        if empty:
            self.average.module = copy.deepcopy(model).eval()

    @property
    def module(self) -> nn.Module:
        """The averaged model, in the structure of the original."""
        return self.average.module

    def update(self, model: nn.Module, step: int) -> None:
        """Move towards ``model`` after optimizer step number ``step`` (from 0)."""
        self.average.update(model, step=step + 1)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The state of the averaged model, in the names of the original."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take the average from a state of whole tensors, whether the model is sharded or not."""
        load_whole(self.module, state)

    @contextmanager
    def swapped_into(self, model: nn.Module) -> Iterator[nn.Module]:
        """Within the block ``model`` holds the averaged weights; afterwards its own, bit for bit."""
        # processes evaluate different numbers of images, some of them none: what they had gathered stays so
        parts = gathered_parts(model)
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.state_dict())
        for part in parts:
            part.unshard()
        try:
            yield model
        finally:
            model.load_state_dict(own)
            for part in parts:
                part.unshard()
