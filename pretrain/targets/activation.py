"""Which of its two activations a CLIP image tower was trained with: GELU or QuickGELU, x * sigmoid(1.702 x).

No tensor tells, and features of the wrong one are wrong without a sign: OpenAI's towers and MetaCLIP's have
QuickGELU, LAION-2B's and DataComp's have GELU (and DFN's have one or the other, by size).
"""

import logging
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from itpn_d2.checkpoint import CheckpointError

logger = logging.getLogger(__name__)
# Scalars that only OpenAI's own checkpoints carry.
_OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")
# What files are called. timm's fine-tuned descendants of OpenAI's towers were fine-tuned with GELU.
_QUICK_NAMES = re.compile(r"openai(?!_ft)|metaclip(?!2_w)", re.IGNORECASE)
_PLAIN_NAMES = re.compile(r"openai_ft|laion2b|datacomp", re.IGNORECASE)


def check_activation(vit: nn.Module, state: dict[str, Tensor], origin: str | Path, remedy: str) -> None:
    """Refuse weights of the other activation, and warn where they only look like it.

    Args:
        origin: the file, by whose name and that of its last folders (the model hub's cache has the
            repository's name there) weights in a layout without marks are known.
        remedy: name of the same tower with the other activation.

    Raises:
        CheckpointError: the marks in the file or its name say the other activation.
    """
    quick = any(type(m).__name__.lower() == "quickgelu" for m in vit.modules())
    name = "/".join(Path(origin).parts[-4:])
    if quick:
        if _PLAIN_NAMES.search(name) and not _QUICK_NAMES.search(name):
            raise CheckpointError(
                f"{origin}: according to its name, it was trained with GELU, but the tower has "
                f"QuickGELU: choose "
                f"{remedy} (or rename the file)"
            )
        return
    if all(mark in state for mark in _OPENAI_MARKS):
        raise CheckpointError(
            f"{origin}: these are OpenAI's weights, trained with QuickGELU, but the tower has GELU: "
            f"choose {remedy}"
        )
    if _QUICK_NAMES.search(name):
        raise CheckpointError(
            f"{origin}: according to its name, it was trained with QuickGELU, but the tower has GELU: choose "
            f"{remedy} (or rename the file)"
        )
    if _half_matrices(state):
        logger.warning(
            "%s: the matrices have half precision and the norms full precision, like OpenAI's published "
            "towers. Those were trained with QuickGELU, but this tower has GELU: if the file is "
            "OpenAI's, choose %s",
            origin,
            remedy,
        )


def _half_matrices(state: dict[str, Tensor]) -> bool:
    """Whether every matrix of the blocks would survive half precision unchanged, but some norm would not."""

    def exact(tensor: Tensor) -> bool:
        return torch.equal(tensor.to(torch.float16).to(tensor.dtype), tensor)

    blocks = {k: v for k, v in state.items() if "blocks." in k and v.is_floating_point()}
    matrices = [v for v in blocks.values() if v.ndim > 1]
    norms = [v for k, v in blocks.items() if v.ndim == 1 and re.search(r"(ln_|norm)\d?\.weight$", k)]
    return bool(matrices) and all(map(exact, matrices)) and not all(map(exact, norms))
