"""Activation checkpointing: which blocks discard their activations and recompute them in the backward
pass."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

CheckpointingSpec = bool | str | Sequence[str]
KEEP_ATTENTION = "keep_attention"
_FUSED = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
_ATTENTION = [getattr(torch.ops.aten, name).default for name in _FUSED if hasattr(torch.ops.aten, name)]
_keeping_attention = partial(create_selective_checkpoint_contexts, _ATTENTION)


class Block(nn.Module):
    """A module whose activations can be recomputed; a subclass says in ``compute`` what it does.

    Attributes:
        recompute: in training, only inputs are kept for the backward pass.
        keep_attention: also keep the results of fused attention, the most expensive part to recompute.
    """

    recompute: bool = False
    keep_attention: bool = False

    compute: Callable[..., Tensor]

    def forward(self, *inputs: Any) -> Tensor:
        """As ``compute``."""
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return self.compute(*inputs)
        if self.keep_attention:
            return checkpoint(self.compute, *inputs, use_reentrant=False, context_fn=_keeping_attention)
        return checkpoint(self.compute, *inputs, use_reentrant=False)


def set_checkpointing(parts: Mapping[str, Sequence[Block]], spec: CheckpointingSpec) -> None:
    """Choose the blocks that are recomputed; all others are not.

    Args:
        parts: blocks by name of their part.
        spec: words, as a list or with commas: the name of a part for all its blocks, ``all`` for all parts;
            ``stage3/2`` for every second block of a part, ``all/2`` of each; ``stage3.5`` for one, counted
            from 0; ``none``; and ``keep_attention``, which goes with any of these. True is ``all``, False
            ``none``.

    Raises:
        ValueError: an unknown word, or ``keep_attention`` on its own.
    """
    text = ["all"] if spec is True else [] if spec is False else [spec] if isinstance(spec, str) else spec
    words = [word.strip() for item in text for word in str(item).split(",") if word.strip()]
    chosen = [
        block for word in words if word not in ("none", KEEP_ATTENTION) for block in _blocks(parts, word)
    ]
    keep = KEEP_ATTENTION in words
    if keep and not chosen:
        raise ValueError(
            f"checkpointing {spec!r}: {KEEP_ATTENTION} needs blocks that are recomputed, e.g. stage3"
        )
    for blocks in parts.values():
        for block in blocks:
            block.recompute = any(block is other for other in chosen)
            block.keep_attention = keep and block.recompute


def _blocks(parts: Mapping[str, Sequence[Block]], word: str) -> list[Block]:
    """The blocks that a word names."""
    match = re.fullmatch(r"([a-z]\w*)(?:([/.])(\d+))?", word)
    name, kind, number = match.groups() if match else ("", None, None)
    whole = name == "all"
    count = int(number) if number else 1
    if not match or not (whole or name in parts) or (kind == "/" and count < 1) or (kind == "." and whole):
        known = ", ".join(("none", "all", *parts, KEEP_ATTENTION))
        raise ValueError(
            f"checkpointing {word!r}: choose from {known}, or stage3/2 (every 2nd), stage3.0 (one)"
        )
    lists = list(parts.values()) if whole else [parts[name]]
    if kind == ".":
        if count >= len(lists[0]):
            raise ValueError(f"checkpointing {word!r}: {name} has blocks 0 to {len(lists[0]) - 1}")
        return [lists[0][count]]
    return [block for blocks in lists for block in list(blocks)[count - 1 :: count]]
