"""The public layouts of Fast-iTPN and of iTPN v1, as rules.

All have one flat ``blocks.{i}`` list with the merges inside. Fast-iTPN has 4-D kernels and separate q, k, v
projections; v1 has linear layers, an own order of the four cells of a merge, and relative position tables.
HiViT is the trunk of v1 under the same names. mmpretrain's port keeps trunk and pyramid apart (``backbone.``,
``neck.``) and renames the position table.
"""

from dataclasses import dataclass

from .rules import (
    Rule,
    RuleSet,
    flat,
    grid_tokens,
    merge_kernel,
    merge_weight,
    point_kernel,
    same,
    split_kernel,
    split_weight,
    square_grid,
    stem_kernel,
    swap_cells,
)


@dataclass(frozen=True)
class Layout:
    """One way to name a model.

    Attributes:
        positions: name of the position table.
        rules: after the flat block index has become ``stage12.{s}.{i}``, ``merge.{s}`` or ``stage3.{i}``.
        ignored: beginnings of names without a counterpart in a backbone or classifier.
        split_qkv: q, k and v are three projections.
    """

    name: str
    positions: str
    rules: RuleSet
    ignored: tuple[str, ...]
    split_qkv: bool


def _shared_rules(point: tuple, split: tuple) -> list[Rule]:
    """What the two layouts share, given the reshaping of 1x1 layers and of splits."""
    rules = [
        Rule("patch_embed.proj.weight", "trunk.patch_embed.proj.weight", flat, stem_kernel),
        Rule("patch_embed.proj.bias", "trunk.patch_embed.proj.bias"),
        Rule("stage12.{s}.{i}.norm2.{p}", "trunk.stage{s}.{i}.norm.{p}"),
        Rule("stage12.{s}.{i}.mlp.ffn_ln.{p}", "trunk.stage{s}.{i}.mlp.norm.{p}"),
        Rule("stage12.{s}.{i}.mlp.{f}.weight", "trunk.stage{s}.{i}.mlp.{f}.weight", *point),
        Rule("stage12.{s}.{i}.mlp.{f}.bias", "trunk.stage{s}.{i}.mlp.{f}.bias"),
        Rule("stage12.{s}.{i}.gamma_2", "trunk.stage{s}.{i}.gamma_2"),
        Rule("fc_norm.{p}", "fc_norm.{p}"),
        Rule("head.{p}", "head.{p}"),
    ]
    for official, ours in (("16tofpn", "align_p4"), ("16to8", "lateral_p3"), ("8to4", "lateral_p2")):
        rules += [
            Rule(f"align_dim_{official}.weight", f"pyramid.{ours}.weight", *point),
            Rule(f"align_dim_{official}.bias", f"pyramid.{ours}.bias"),
        ]
    parts = [("block_16to8.{i}", "blocks_p3.{i}"), ("block_8to4.{i}", "blocks_p2.{i}")]
    parts += [(f"fpn_modules.{k}", f"out_{level}") for k, level in enumerate(("p4", "p3", "p2"))]
    for official, ours in parts:
        rules += [
            Rule(f"{official}.norm2.{{p}}", f"pyramid.{ours}.norm.{{p}}"),
            Rule(f"{official}.mlp.{{f}}.weight", f"pyramid.{ours}.mlp.{{f}}.weight", *point),
            Rule(f"{official}.mlp.{{f}}.bias", f"pyramid.{ours}.mlp.{{f}}.bias"),
        ]
    for official, level in (("16to8", "p3"), ("8to4", "p2")):
        rules += [
            Rule(f"split_{official}.norm.{{p}}", f"pyramid.split_{level}.norm.{{p}}"),
            Rule(f"split_{official}.reduction.weight", f"pyramid.split_{level}.reduction.weight", *split),
            Rule(f"split_{official}.reduction.bias", f"pyramid.split_{level}.bias"),
        ]
    return rules


FAST_ITPN = Layout(
    "official",
    "pos_embed",
    RuleSet(
        [
            *_shared_rules((flat, point_kernel), (split_weight, split_kernel)),
            Rule("pos_embed", "trunk.pos_embed", square_grid, grid_tokens),
            Rule("merge.{s}.reduction.weight", "trunk.merge{s}.reduction.weight", merge_weight, merge_kernel),
            Rule("merge.{s}.{f}.{p}", "trunk.merge{s}.{f}.{p}"),
            Rule("stage3.{i}.mlp.ffn_ln.{p}", "trunk.stage3.{i}.mlp.norm.{p}"),
            Rule("stage3.{i}.{r}", "trunk.stage3.{i}.{r}"),
            Rule("norm.{p}", "trunk.norm.{p}"),
        ]
    ),
    ("mask_token", "decoder_embed.", "lm_head."),
    split_qkv=True,
)


def _v1(name: str, positions: str) -> Layout:
    rules = [
        *_shared_rules((same, same), (same, same)),
        Rule("patch_embed.norm.{p}", "trunk.patch_embed.norm.{p}"),
        Rule(positions, "trunk.pos_embed", square_grid, grid_tokens),
        Rule("merge.{s}.norm.{p}", "trunk.merge{s}.norm.{p}", swap_cells, swap_cells),
        Rule("merge.{s}.reduction.weight", "trunk.merge{s}.reduction.weight", swap_cells, swap_cells),
        Rule(
            "stage3.{i}.attn.relative_position_bias_table",
            "trunk.stage3.{i}.attn.rel_pos.table",
            lambda w: square_grid(w[None]),
            lambda w: grid_tokens(w)[0],
        ),
        Rule(
            "stage3.{i}.attn.rel_pos_h",
            "trunk.stage3.{i}.attn.rel_pos.rows",
            lambda w: w[None, :, None],
            lambda w: w[0, :, 0],
        ),
        Rule(
            "stage3.{i}.attn.rel_pos_w",
            "trunk.stage3.{i}.attn.rel_pos.columns",
            lambda w: w[None, None],
            lambda w: w[0, 0],
        ),
        Rule("stage3.{i}.{r}", "trunk.stage3.{i}.{r}"),
    ]
    # norm belongs to the pre-training head; the index follows from the grid
    heads = (
        "mask_token",
        "decoder_",
        "lm_",
        "norm.",
        "norm_cls.",
        "cls_pt_layers.",
        "relative_position_index",
    )
    return Layout(name, positions, RuleSet(rules), heads, split_qkv=False)


ITPN_V1 = _v1("official v1", "absolute_pos_embed")
MMPRETRAIN = _v1("mmpretrain", "pos_embed")
