"""Which tokens of an image migrate, as a model runs it."""

from typing import Any

import numpy as np
from torch import nn

from ..backbone import Trunk
from ..backbone.trunk import TOKEN_STRIDE
from .parts import calls_of


def token_exits(model: nn.Module, trunk: Trunk, sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The image of a sample, RGB uint8 ``(H, W, 3)``, and ``(rows, columns)`` how many blocks of stage 3
    its tokens go through in ``trunk``, a part of ``model``, without padding."""
    with calls_of(trunk) as calls:
        model([sample])
    image = sample["image"].permute(1, 2, 0)
    if getattr(model, "input_format", "RGB") == "BGR":
        image = image.flip(-1)
    args, kwargs = calls[0]
    blocks = trunk.exit_blocks(*args, **kwargs)[0]
    rows, columns = (-(-side // TOKEN_STRIDE) for side in image.shape[:2])
    return image.byte().cpu().numpy(), blocks[:rows, :columns].cpu().numpy()
