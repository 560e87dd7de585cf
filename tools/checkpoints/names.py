"""Names and shapes of the public checkpoints, at any size, for files that stand in for them.

Written down from the reference models, not derived from the key maps of :mod:`itpn_d2.checkpoint`: what tests
and documentation load by these names shows that the maps are right.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

Name = tuple[str, tuple[int, ...]]  # a name that ends in a dot stands for a weight and its bias
Widths = tuple[int, int, int]
CHANNELS: Widths = (8, 16, 32)
DEPTHS = (1, 1, 2)
SIDE = 4  # of the square grid of positions


def shapes(names: Iterable[Name]) -> dict[str, tuple[int, ...]]:
    """``{name: shape}``; a norm or linear layer is written as its two tensors."""
    out = {}
    for name, shape in names:
        if name.endswith("."):
            out[f"{name}weight"], out[f"{name}bias"] = shape, shape[:1]
        else:
            out[name] = shape
    return out


def filled(names: Iterable[Name]) -> dict[str, Tensor]:
    """A state dict of seeded noise, and of zeros where indices lie."""
    generator = torch.Generator().manual_seed(0)
    return {
        k: torch.zeros(s, dtype=torch.int64) if "index" in k else torch.randn(s, generator=generator)
        for k, s in shapes(names).items()
    }


def pyramid_names(channels: Widths, fpn: int, depth: int, hidden: int, conv: bool) -> list[Name]:
    """Pyramid of both versions: convolutions with biases in Fast-iTPN, linear layers in v1."""
    c1, c2, c3 = channels
    point = (1, 1) if conv else ()
    names: list[Name] = [] if c3 == fpn else [("align_dim_16tofpn.", (fpn, c3, *point))]
    for name, width in (("align_dim_16to8", c2), ("align_dim_8to4", c1)):
        names.append((f"{name}." if conv else f"{name}.weight", (fpn, width, *point)))
    for name, width in (("split_16to8", c3), ("split_8to4", fpn)):
        names.append((f"{name}.norm.", (width,)))
        names.append((f"{name}.reduction.weight", (width, fpn, 2, 2) if conv else (4 * fpn, width)))
        if conv:
            names.append((f"{name}.reduction.bias", (fpn,)))
    lists = [f"{b}.{i}" for b in ("block_16to8", "block_8to4") for i in range(depth)]
    for block in (*lists, *(f"fpn_modules.{i}" for i in range(3))):
        names += [
            (f"{block}.norm2.", (fpn,)),
            (f"{block}.mlp.fc1.", (hidden, fpn, *point)),
            (f"{block}.mlp.fc2.", (fpn, hidden, *point)),
        ]
    return names


def fast_names(
    channels: Widths = CHANNELS, depths: tuple[int, int, int] = DEPTHS, side: int = SIDE, bands: int = 3
) -> list[Name]:
    """The trunk of Fast-iTPN."""
    c1, c2, c3 = channels
    names: list[Name] = [("pos_embed", (1, side * side, c3)), ("patch_embed.proj.", (c1, bands, 4, 4))]
    index = 0
    for width, depth in ((c1, depths[0]), (c2, depths[1])):
        for _ in range(depth):
            names += [
                (f"blocks.{index}.norm2.", (width,)),
                (f"blocks.{index}.mlp.fc1.", (3 * width, width, 1, 1)),
                (f"blocks.{index}.mlp.ffn_ln.", (3 * width,)),
                (f"blocks.{index}.mlp.fc2.", (width, 3 * width, 1, 1)),
            ]
            index += 1
        names += [
            (f"blocks.{index}.norm.", (width,)),
            (f"blocks.{index}.reduction.", (2 * width, width, 2, 2)),
        ]
        index += 1
    for i in range(index, index + depths[2]):
        names += [(f"blocks.{i}.{n}", (c3,)) for n in ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")]
        names += [(f"blocks.{i}.{n}.", (c3,)) for n in ("norm1", "norm2")]
        names += [(f"blocks.{i}.attn.{n}_proj.weight", (c3, c3)) for n in "qkv"]
        names += [(f"blocks.{i}.attn.proj.", (c3, c3)), (f"blocks.{i}.mlp.ffn_ln.", (3 * c3,))]
        names += [(f"blocks.{i}.mlp.w{n}.", (3 * c3, c3)) for n in (1, 2)]
        names += [(f"blocks.{i}.mlp.w3.", (c3, 3 * c3))]
    return names


def v1_names(
    channels: Widths = CHANNELS,
    depths: tuple[int, int, int] = DEPTHS,
    side: int = SIDE,
    bands: int = 3,
    heads: int = 2,
    gammas: bool = False,
    rpe: bool = False,
    pos: str = "absolute_pos_embed",
) -> list[Name]:
    """The trunk of iTPN, HiViT and mmpretrain's port (``pos="pos_embed"``).

    Args:
        gammas: layer scale in every block, as in the CLIP form.
        rpe: tables of relative positions.
    """
    c1, c2, c3 = channels
    names: list[Name] = [
        (pos, (1, side * side, c3)),
        ("patch_embed.proj.", (c1, bands, 4, 4)),
        ("patch_embed.norm.", (c1,)),
    ]
    if rpe:
        names.append(("relative_position_index", (side * side, side * side)))
    index = 0
    for width, depth in ((c1, depths[0]), (c2, depths[1])):
        for _ in range(depth):
            names += [
                (f"blocks.{index}.norm2.", (width,)),
                (f"blocks.{index}.mlp.fc1.", (3 * width, width)),
                (f"blocks.{index}.mlp.fc2.", (width, 3 * width)),
            ]
            if gammas:
                names.append((f"blocks.{index}.gamma_2", (width,)))
            index += 1
        names += [
            (f"blocks.{index}.norm.", (4 * width,)),
            (f"blocks.{index}.reduction.weight", (2 * width, 4 * width)),
        ]
        index += 1
    for i in range(index, index + depths[2]):
        names += [(f"blocks.{i}.{n}.", (c3,)) for n in ("norm1", "norm2")]
        names += [(f"blocks.{i}.attn.qkv.", (3 * c3, c3)), (f"blocks.{i}.attn.proj.", (c3, c3))]
        names += [(f"blocks.{i}.mlp.fc1.", (4 * c3, c3)), (f"blocks.{i}.mlp.fc2.", (c3, 4 * c3))]
        names += [(f"blocks.{i}.gamma_{n}", (c3,)) for n in (1, 2) if gammas]
        if rpe:
            names.append((f"blocks.{i}.attn.relative_position_bias_table", ((2 * side - 1) ** 2, heads)))
    return names


def classifier_names(width: int = CHANNELS[2], classes: int = 5) -> list[Name]:
    """The head of every fine-tuned file."""
    return [("fc_norm.", (width,)), ("head.", (classes, width))]


def fastmim_state(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """FastMIM's names over a ViT (``prefix`` empty) or a two-stage Swin (``encoder.``) of timm: Swin's merges
    one stage earlier, a decoder, and buffers."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, value in network.state_dict().items():
        if key.startswith("layers."):
            stage, rest = int(key.split(".")[1]), key.split(".", 2)[2]
            if rest.startswith("downsample"):
                key = f"layers.{stage - 1}.{rest}"
        state[prefix + key] = torch.randn(value.shape, generator=generator)
    if prefix:
        for stage in range(2):
            state[f"{prefix}layers.{stage}.blocks.0.attn.relative_position_index"] = torch.zeros(4, 4).long()
            state[f"{prefix}layers.{stage}.blocks.0.attn_mask"] = torch.zeros(4, 4, 4)
    heads = {
        "decoder_embed.weight": (8, 16),
        "decoder_norm.bias": (8,),
        "decoder_blocks.0.norm1.weight": (8,),
    }
    state |= {k: torch.zeros(s) for k, s in heads.items()}
    return state | {"mask_token": torch.zeros(1, 3, 1, 1)}
