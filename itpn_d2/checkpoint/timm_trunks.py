"""Published ViT and Swin checkpoints (FastMIM and others that share their names) in timm's networks.

FastMIM's ViT lies at the top level, any other encoder under ``encoder.``. Swin's patch merging stands at the
end of a stage there and at the start of the next one in timm; its weight order is the same.
"""

import math
import re
from typing import Any

from timm.layers import resample_abs_pos_embed, resample_patch_embed, resize_rel_pos_bias_table
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ..backbone.adapt import Adapted, adapt_bands, describe_bands

State = dict[str, Tensor]
TimmTrunk = Any  # VisionTransformer or SwinTransformer: timm has no type information
# of the pre-training decoder
HEADS = (
    "mask_token",
    "decoder_embed.",
    "decoder_blocks.",
    "decoder_norm.",
    "decoder_pred.",
    "decoder_pos_embed",
)
# recomputed from the window sizes; timm does not store them either
BUFFERS = ("relative_position_index", "attn_mask")
SIX_HEADS = (
    "the published FastMIM ViT-B was pre-trained with 6 heads and fine-tuned with 12, which no shape shows: "
    "to continue its pre-training build the network with num_heads=6"
)


def find_trunk(model: nn.Module) -> TimmTrunk | None:
    """The first ViT or Swin of timm in a model: itself, or inside a wrapper."""
    return next((m for m in model.modules() if isinstance(m, (VisionTransformer, SwinTransformer))), None)


def move_merges(name: str, by: int) -> str:
    """Swin's merges to the stage ``by`` after (before) theirs."""
    return re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + by}.downsample.", name)


def layout_of(state: State) -> str | None:
    """``ViT`` or ``Swin`` by the names of a state dict, None for anything else."""
    names = {k.removeprefix("encoder.") for k in state}
    if "layers.0.blocks.0.attn.qkv.weight" in names and "patch_embed.proj.weight" in names:
        return "Swin"
    if {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed"} <= names:
        return "ViT"
    return None


def to_timm(state: State) -> tuple[State, list[str]]:
    """A published ViT or Swin in timm's names (which pass through), and the names left out."""
    official = any(re.match(r"(encoder\.)?layers\.0\.downsample\.", k) for k in state)
    out: State = {}
    ignored = []
    for key, value in state.items():
        if key.startswith(HEADS) or key.endswith(BUFFERS):
            ignored.append(key)
            continue
        name = key.removeprefix("encoder.")
        if official:
            name = re.sub(r"^head\.(?!fc\.)", "head.fc.", move_merges(name, 1))
        out[name] = value
    return out, ignored


def adapt_timm(trunk: TimmTrunk, name: str, value: Tensor, like: Tensor) -> Adapted | None:
    """A tensor in the shape of ``like``, which ``trunk`` has under that name, and what was done; None if it
    can't be."""
    if name.endswith("relative_position_bias_table") and value.shape[1:] == like.shape[1:]:
        window = trunk.get_submodule(name.rpartition(".")[0]).window_size
        old = math.isqrt(len(value))
        if old * old != len(value):
            return None
        words = f"window table {old}x{old} -> {2 * window[0] - 1}x{2 * window[1] - 1}, geometric"
        return resize_rel_pos_bias_table(value, window, like.shape), words
    if name == "pos_embed" and value.ndim == 3 and value.shape[-1] == like.shape[-1]:
        grid = tuple(trunk.patch_embed.grid_size)
        prefix = like.shape[1] - grid[0] * grid[1]
        old = math.isqrt(value.shape[1] - prefix)
        if old * old + prefix != value.shape[1]:
            return None
        words = f"grid {old}x{old} -> {grid[0]}x{grid[1]}, bicubic"
        table = resample_abs_pos_embed(value, list(grid), [old, old], prefix, antialias=False)
        return table, words
    if name == "patch_embed.proj.weight" and value.ndim == 4 and len(value) == len(like):
        changes = []
        if value.shape[2:] != like.shape[2:]:
            changes.append(f"patch {value.shape[2]}x{value.shape[3]} -> {like.shape[2]}x{like.shape[3]}")
            value = resample_patch_embed(value, list(like.shape[2:]))
        if value.shape[1] != like.shape[1]:
            changes.append(describe_bands(value.shape[1], like.shape[1]))
            value = adapt_bands(value, like.shape[1])
        return value, "; ".join(changes)
    return None
