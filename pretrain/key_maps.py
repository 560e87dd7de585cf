"""Names of published FastMIM checkpoints to ours, and back.

Published ones have a ViT at the top level and any other encoder under ``encoder.``. Swin's patch merging
stands at the end of a stage there and at the start of the next one in timm; its weight order is the same.
"""

import re

from torch import Tensor

State = dict[str, Tensor]

_OURS = "encoder.backbone."
_SHARED = ("mask_token", "decoder_embed.", "decoder_blocks.", "decoder_norm.", "decoder_pred.")
# recomputed from the window sizes; timm does not store them either
_BUFFERS = ("relative_position_index", "attn_mask")


def _move_merges(name: str, by: int) -> str:
    return re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + by}.downsample.", name)


def fastmim_to_native(state: State) -> State:
    """A published FastMIM state dict (ViT or Swin) in the names of :class:`pretrain.methods.FastMIM`; one in
    our names passes through."""
    if any(key.startswith(_OURS) for key in state):
        return dict(state)
    out: State = {}
    for key, value in state.items():
        if key.endswith(_BUFFERS):
            continue
        name = key if key.startswith(_SHARED) else _OURS + _move_merges(key.removeprefix("encoder."), 1)
        out[name] = value
    return out


def fastmim_from_native(state: State) -> State:
    """The inverse of :func:`fastmim_to_native`, without the buffers that it drops.

    Raises:
        KeyError: a name is not one of :class:`pretrain.methods.FastMIM` over a ViT or Swin.
    """
    prefix = "encoder." if any(key.startswith(f"{_OURS}layers.") for key in state) else ""
    out: State = {}
    for key, value in state.items():
        if key.startswith(_SHARED):
            out[key] = value
        elif key.startswith(_OURS):
            out[prefix + _move_merges(key.removeprefix(_OURS), -1)] = value
        else:
            raise KeyError(f"{key} has no counterpart in a FastMIM checkpoint")
    return out
