"""``train.compile=blocks``: each block of a trunk, pyramid or decoder compiled on its own."""

import logging

import torch
from torch import nn

from ..backbone.blocks import AttentionBlock, MlpBlock
from ..errors import ConfigError

logger = logging.getLogger(__name__)
# of one block: training, evaluation, with padding and without, a size that is no symbol
_GRAPHS = 8


def compile_blocks(model: nn.Module, dynamic: bool | None, backend: str = "inductor") -> None:
    """Compile every block of ``model``, in place: graphs are small, sizes may vary, and what lies between the
    blocks stays as it is, such as tokens that leave. Names of parameters do not change.

    Args:
        dynamic: True: one graph for all sizes; None: one for the first size, and another for all others.

    Raises:
        ConfigError: the model has no such blocks.
    """
    blocks = [m for m in model.modules() if isinstance(m, AttentionBlock | MlpBlock)]
    if not blocks:
        raise ConfigError(
            "train.compile=blocks: this model has no blocks of Fast-iTPN or iTPN; set train.compile=none"
        )
    # All blocks share the code of one forward, whose graphs torch counts together: beyond the limit it would
    # run the rest uncompiled.
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, _GRAPHS * len(blocks))
    limits.accumulated_recompile_limit = max(limits.accumulated_recompile_limit, 2 * limits.recompile_limit)
    for block in blocks:
        block.compile(fullgraph=True, dynamic=dynamic, backend=backend)
    logger.info(
        "%d blocks are compiled when they are first used, which makes the first iterations slow", len(blocks)
    )
