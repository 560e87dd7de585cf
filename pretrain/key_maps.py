"""Names of published pre-training checkpoints to ours.

The reference methods put trunk, pyramid and heads on one level; the first two go through the key maps of the
backbone, the heads through the rules here.

Published FastMIM checkpoints: see :mod:`itpn_d2.checkpoint.timm_trunks`.
"""

from torch import Tensor

from itpn_d2.checkpoint import to_native
from itpn_d2.checkpoint.rules import Rule, RuleSet, merge_weight, same, square_grid
from itpn_d2.checkpoint.timm_trunks import BUFFERS, move_merges

State = dict[str, Tensor]

_OURS = "encoder.backbone."
_SHARED = ("mask_token", "decoder_embed.", "decoder_blocks.", "decoder_norm.", "decoder_pred.")


def fastmim_to_native(state: State) -> State:
    """A published FastMIM state dict (ViT or Swin) in the names of :class:`pretrain.methods.FastMIM`; one in
    our names passes through."""
    if any(key.startswith(_OURS) for key in state):
        return dict(state)
    out: State = {}
    for key, value in state.items():
        if key.endswith(BUFFERS):
            continue
        name = key if key.startswith(_SHARED) else _OURS + move_merges(key.removeprefix("encoder."), 1)
        out[name] = value
    return out


def _patch_weight(w: Tensor) -> Tensor:
    """A fusion kernel (out, in, k, k) to linear weight over (row, column, channel); a linear weight stays."""
    return merge_weight(w) if w.ndim == 4 else w


def _patch_token(w: Tensor) -> Tensor:
    """``(1, 1, 16 * C)`` in (channel, row, column) order to ``(4, 4, C)``; a plain token stays."""
    return w.reshape(-1, 4, 4).permute(1, 2, 0)


_FUSION = [
    Rule("decoder_embed.{i}.0.{p}", "fusion.norms.{i}.{p}"),
    Rule("decoder_embed.{i}.1.weight", "fusion.embeds.{i}.weight", _patch_weight),
    Rule("decoder_embed.{i}.1.bias", "fusion.embeds.{i}.bias"),
]
_HEADS = {
    "PixelMIM": RuleSet(
        [
            *_FUSION,
            Rule("mask_token", "fill.token"),
            Rule("decoder_blocks.{i}.{r}", "decoder.blocks.{i}.{r}"),
            Rule("decoder_norm.{p}", "decoder.norm.{p}"),
            Rule("decoder_pred.{p}", "decoder.heads.0.{p}"),
        ]
    ),
    "FeatureDistillation": RuleSet(
        [
            *_FUSION,
            Rule("mask_token", "mask_token", _patch_token),
            Rule("lm_head.{p}", "head.{p}"),
        ]
    ),
    "CLIPDistillation": RuleSet(
        [
            *_FUSION,
            Rule("mask_token", "mask_token"),
            Rule("norm.{p}", "norm.{p}"),
            Rule("lm_head.{p}", "head.{p}"),
            Rule("norm_cls.{p}", "aux_norm.{p}"),
            Rule("lm_cls_head.{p}", "aux_head.{p}"),
            Rule(
                "cls_pt_layers.{i}.attn.relative_position_bias_table",
                "aux_blocks.{i}.attn.rel_pos.table",
                lambda w: square_grid(w[None]),
                same,
            ),
            Rule("cls_pt_layers.{i}.{r}", "aux_blocks.{i}.{r}"),
        ]
    ),
}


def knows_heads(method: str) -> bool:
    """Whether there are published files of this method (a class name) with its heads."""
    return method in _HEADS


def itpn_heads(key: str, value: Tensor, method: str) -> tuple[str, Tensor] | None:
    """A tensor that belongs to a published pre-training's heads, under its name in ``method``; None for
    another."""
    return _HEADS[method].to_ours(key, value)


def itpn_to_native(state: State, method: str) -> State:
    """A published iTPN or Fast-iTPN pre-training state dict, heads included, in the names of a method.

    Args:
        method: class name in :mod:`pretrain.methods`: PixelMIM, FeatureDistillation or CLIPDistillation.

    Raises:
        KeyError: another method. CheckpointError: the names are of no known layout.
    """
    mapped = to_native(state)
    out = {f"backbone.{name}": value for name, value in mapped.state.items()}
    for key in mapped.ignored:
        found = itpn_heads(key, state[key], method)
        if found is not None:
            out[found[0]] = found[1].contiguous()
    return out
