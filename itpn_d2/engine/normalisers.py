"""What one-stage detectors divide their losses by: a moving average that only training uses.

It is kept beside the optimizer's moments, not among the weights, which stay those of Detectron2's RetinaNet
and FCOS.
"""

import math
from collections.abc import Mapping
from typing import Any

from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from torch import nn

_NAME = "loss_normalizer"  # Detectron2's, which is not there before the first step


def normalisers(model: nn.Module) -> dict[str, float]:
    """The moving averages of the detectors in ``model``, by the names of these; empty where there are
    none."""
    return {
        name: float(getattr(module, _NAME))
        for name, module in model.named_modules()
        if isinstance(module, DenseDetector) and hasattr(module, _NAME)
    }


def load_normalisers(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Go on from what :func:`normalisers` gave. A detector of which ``state`` says nothing begins anew.

    Raises:
        ValueError: a value is none that losses can be divided by.
    """
    for name, value in state.items():
        if type(value) is not float or not 0 < value < math.inf:
            raise ValueError(f"losses of {name or 'the model'} can't be divided by {value!r:.50}")
    for name, module in model.named_modules():
        if isinstance(module, DenseDetector) and name in state:
            setattr(module, _NAME, state[name])
