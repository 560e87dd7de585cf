"""Checkpoints of ViT, Swin, PVTv2 and every other network of timm: what the files call their parts, and how
their tensors fit another size.

FastMIM publishes ViT at the top level and any other encoder under ``encoder.``. Swin's patch merging stands
at the end of a stage there and at the start of the next one in timm; its weight order is the same. Our own
FastMIM pre-training has the network under ``encoder.backbone.``, and a detector has it wherever its config
puts it.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.layers import resample_abs_pos_embed, resample_patch_embed, resize_rel_pos_bias_table
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.adapt import Adapted, adapt_bands, describe_bands
from ..backbone.timm_names import HEAD, canonical, find_networks, is_wrapped, plain_name

State = dict[str, Tensor]
PRETRAINED = "encoder.backbone."  # of pretrain.methods.FastMIM
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
# of a network with stages, of ResNet, of ViT
_FIRST_BLOCK = re.compile(
    r"(.*?\.|)(?:model\.|body\.)?(?:(?:stages|layers)[._]0\.(?:blocks\.)?0\.|layer1\.0\.|(?<!\d\.)blocks\.0\.attn\.)"
)
SIX_HEADS = (
    "the published FastMIM ViT-B was pre-trained with 6 heads and fine-tuned with 12, which no shape shows: "
    "to continue its pre-training build the network with num_heads=6"
)


@dataclass(frozen=True)
class TimmFile:
    """A file of a network of timm.

    Attributes:
        kind: what is known of it.
        state: plain names (see :mod:`itpn_d2.backbone.timm_names`) and, where the network is a part of a
            larger model, the names of the others as they are.
        ignored: of the file: heads of a pre-training, buffers that follow from the rest.
        network: names in ``state`` that belong to the network.
        partial: the last blocks may have been left out (FastMIM's partial encoder).
    """

    kind: str
    state: State
    ignored: list[str]
    network: frozenset[str]
    partial: bool = False


def move_merges(name: str, by: int) -> str:
    """Swin's merges to the stage ``by`` after (before) theirs."""
    return re.sub(r"^layers\.(\d+)\.downsample\.", lambda m: f"layers.{int(m[1]) + by}.downsample.", name)


def read_timm(state: State) -> TimmFile | None:
    """A file whose names alone tell that it is of a network of timm, None for any other."""
    if any(key.startswith(PRETRAINED) for key in state):
        return _ours(state)
    names = {k.removeprefix("encoder.") for k in state}
    if "patch_embed1.proj.weight" in names and "block1.0.attn.q.weight" in names:
        return _published(state, "PVTv2 (FastMIM)", pvt_name)
    if "layers.0.blocks.0.attn.qkv.weight" in names and "patch_embed.proj.weight" in names:
        official = any(re.match(r"(encoder\.)?layers\.0\.downsample\.", k) for k in state)
        return _published(state, "Swin (FastMIM, timm)", swin_name if official else str)
    if {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed"} <= names:
        return _published(state, "ViT (FastMIM, timm)", str)
    return _inside(state)


def _inside(state: State) -> TimmFile | None:
    """A network at the top level or inside a detector or classifier; the others' names stay as they are."""
    roots = {m[1] for key in state if (m := _FIRST_BLOCK.match(key))}
    if len(roots) != 1:
        return None
    root = roots.pop()
    names = {k: plain_name(k.removeprefix(root)) for k in state if k.startswith(root)}
    if not any(re.match(r"(stem|conv1|conv_stem|patch_embed)[._]", name) for name in names.values()):
        return None
    out = {names.get(k, k): v for k, v in state.items()}
    return TimmFile(f"timm, under {root[:-1]}" if root else "timm", out, [], frozenset(names.values()))


def _published(state: State, kind: str, rename: Callable[[str], str]) -> TimmFile:
    out: State = {}
    ignored = []
    for key, value in state.items():
        if key.startswith(HEADS) or key.endswith(BUFFERS):
            ignored.append(key)
        else:
            out[rename(key.removeprefix("encoder."))] = value
    return TimmFile(kind, out, ignored, frozenset(out))


def swin_name(name: str) -> str:
    """FastMIM's (and the official) name of a part of Swin in timm's."""
    return re.sub(r"^head\.(?!fc\.)", "head.fc.", move_merges(name, 1))


def pvt_name(name: str) -> str:
    """FastMIM's (and the official) name of a part of PVTv2 in timm's."""
    name = re.sub(r"^patch_embed1\.", "patch_embed.", name)
    name = re.sub(r"^patch_embed(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.downsample.", name)
    name = re.sub(r"^block(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.", name)
    name = re.sub(r"^norm(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.norm.", name)
    return name.replace(".dwconv.dwconv.", ".dwconv.")


def _ours(state: State) -> TimmFile:
    network = {k: plain_name(k.removeprefix(PRETRAINED)) for k in state if k.startswith(PRETRAINED)}
    kept = {k: name for k, name in network.items() if not k.endswith(BUFFERS)}
    out = {name: state[k] for k, name in kept.items()}
    ignored = [k for k in state if k not in kept]
    return TimmFile("FastMIM of this project, a network of timm", out, ignored, frozenset(out), True)


def match_timm(state: State, model: nn.Module) -> TimmFile | None:
    """A file whose names are those of the model's network of timm, wherever they lie in the file: of another
    detector or classifier over the same network, or of the bare network. None where they are not."""
    _, network = next(find_networks(model))
    wanted = {canonical(name) for name in network.state_dict()}
    votes: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        for cut in range(len(parts)):
            if canonical(".".join(parts[cut:])) in wanted:
                votes[".".join(parts[:cut])] += 1
    prefix, count = max(votes.items(), key=lambda item: (item[1], -len(item[0])), default=("", 0))
    if 2 * count < len(wanted):
        return None
    start = f"{prefix}." if prefix else ""
    names = {k: plain_name(k.removeprefix(start)) for k in state if k.startswith(start)}
    out = {names.get(k, k): v for k, v in state.items()}
    return TimmFile(f"timm, under {prefix}" if prefix else "timm", out, [], frozenset(names.values()))


def own_names(model: nn.Module) -> tuple[str, dict[str, str]]:
    """What stands before the names of the model's network of timm, and its names by their canonical form."""
    prefix, network = next(find_networks(model))
    return prefix, {canonical(name): f"{prefix}{name}" for name in network.state_dict()}


def lacking(missing: list[str], present: frozenset[str], partial: bool) -> list[str]:
    """Of the parts of a network that a file lacks, those that it can't be without.

    Args:
        missing, present: plain names.
        partial: blocks behind the last one of a list may be left out.
    """
    last: dict[str, int] = {}
    for name in present:
        if match := re.match(r"(.*?\bblocks\.)(\d+)\.", name):
            last[match[1]] = max(last.get(match[1], -1), int(match[2]))
    lost = []
    for name in missing:
        match = re.match(r"(.*?\bblocks\.)(\d+)\.", name)
        left_out = partial and match and last and int(match[2]) > last.get(match[1], -1)
        if not (HEAD.match(name) or name.endswith(("num_batches_tracked", *BUFFERS)) or left_out):
            lost.append(name)
    return lost


def surplus(left: list[str], network: nn.Module) -> list[str]:
    """Of the parts (plain names) that a network has no place for, those that it can't leave out: a feature
    extractor may end before the last stage."""
    stage = re.compile(r"((?:stages|layers|levels|blocks|block)\.|layer)(\d+)\.")
    last: dict[str, int] = {}
    for name in map(plain_name, network.state_dict()):
        if match := stage.match(name):
            last[match[1]] = max(last.get(match[1], -1), int(match[2]))
    found = []
    for name in left:
        match = stage.match(name)
        behind = is_wrapped(network) and match and int(match[2]) > last.get(match[1], 10**6)
        if not (HEAD.match(name) or name.endswith(("num_batches_tracked", *BUFFERS)) or behind):
            found.append(name)
    return found


def adapt_timm(model: nn.Module, name: str, value: Tensor, like: Tensor) -> Adapted | None:
    """A tensor in the shape of ``like``, which ``model`` has under that name, and what was done; None if it
    can't be."""
    owner: Any = model.get_submodule(name.rpartition(".")[0])
    part = name.rpartition(".")[2]
    if part == "relative_position_bias_table" and hasattr(owner, "window_size"):
        return _window_table(owner, value, like)
    if part.startswith("pos_embed") and value.shape[:1] == like.shape[:1]:
        return _positions(owner, value, like)
    if name.endswith("patch_embed.proj.weight") and value.ndim == like.ndim == 4 and len(value) == len(like):
        changes = []
        if value.shape[2:] != like.shape[2:]:
            changes.append(f"patch {value.shape[2]}x{value.shape[3]} -> {like.shape[2]}x{like.shape[3]}")
            value = resample_patch_embed(value, list(like.shape[2:]))
        if value.shape[1] != like.shape[1]:
            changes.append(describe_bands(value.shape[1], like.shape[1]))
            value = adapt_bands(value, like.shape[1])
        return value, "; ".join(changes)
    stem = re.search(r"(^|\.)(stem[._]0|stem\.conv1|conv1|conv_stem|conv1\.0|stem)\.(conv\.)?weight$", name)
    if stem and value.ndim == 4 and value.shape[0] == like.shape[0] and value.shape[2:] == like.shape[2:]:
        return adapt_bands(value, like.shape[1]), describe_bands(value.shape[1], like.shape[1])
    return None


def _window_table(owner: Any, value: Tensor, like: Tensor) -> Adapted | None:
    """Swin's table (positions, heads), BEiT's with three more rows for its token, MaxViT's (heads, rows,
    columns)."""
    window = owner.window_size
    if value.ndim == like.ndim == 3 and len(value) == len(like):
        words = f"window table {value.shape[1]}x{value.shape[2]} -> {like.shape[1]}x{like.shape[2]}, bicubic"
        return F.interpolate(value[None], like.shape[1:], mode="bicubic")[0], words
    if value.shape[1:] != like.shape[1:] or not isinstance(window, tuple):
        return None
    extra = len(like) - (2 * window[0] - 1) * (2 * window[1] - 1)
    old = math.isqrt(len(value) - extra)
    if old * old != len(value) - extra or extra < 0:
        return None
    words = f"window table {old}x{old} -> {2 * window[0] - 1}x{2 * window[1] - 1}, geometric"
    return resize_rel_pos_bias_table(value, window, like.shape), words


def _positions(owner: Any, value: Tensor, like: Tensor) -> Adapted | None:
    """Tables ``(1, positions, C)`` of ViT and Hiera, and ``(1, C, h, w)`` of Hiera."""
    if value.ndim == like.ndim == 4 and value.shape[1] == like.shape[1]:
        words = f"grid {value.shape[2]}x{value.shape[3]} -> {like.shape[2]}x{like.shape[3]}, bicubic"
        return F.interpolate(value, like.shape[2:], mode="bicubic"), words
    grid = tuple(getattr(owner, "tokens_spatial_shape", ())) or tuple(
        getattr(getattr(owner, "patch_embed", None), "grid_size", ()) or ()
    )
    if len(grid) != 2 or value.ndim != 3 or like.ndim != 3 or value.shape[-1] != like.shape[-1]:
        return None
    prefix = like.shape[1] - grid[0] * grid[1]
    old = math.isqrt(value.shape[1] - prefix)
    if old * old + prefix != value.shape[1]:
        return None
    words = f"grid {old}x{old} -> {grid[0]}x{grid[1]}, bicubic"
    return resample_abs_pos_embed(value, list(grid), [old, old], prefix, antialias=False), words
