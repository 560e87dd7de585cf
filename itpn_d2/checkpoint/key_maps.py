"""Names and shapes of foreign checkpoints to ours, and back.

Ours is described by the modules themselves (``trunk.*``, ``pyramid.*``). The official Fast-iTPN layout has
one flat ``blocks.{i}`` list with the merges inside, 4-D kernels for what are linear layers, and separate q,
k, v projections.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import CheckpointError

State = dict[str, Tensor]


@dataclass
class Mapped:
    """A state dict in our names, and the foreign keys that have no place in a backbone or classifier."""

    state: State
    layout: str
    ignored: list[str] = field(default_factory=list)


def _flat(w: Tensor) -> Tensor:
    return w.flatten(1)


def _merge(w: Tensor) -> Tensor:
    """Convolution kernel (out, in, 2, 2) to linear weight over (row, column, channel)."""
    return w.permute(0, 2, 3, 1).flatten(1)


def _split(w: Tensor) -> Tensor:
    """Transposed-convolution kernel (in, out, 2, 2) to linear weight with rows (row, column, out)."""
    return w.permute(2, 3, 1, 0).flatten(0, 2)


def _kernel(w: Tensor) -> Tensor:
    return w[:, :, None, None]


def _stem_kernel(w: Tensor) -> Tensor:
    return w.unflatten(1, (-1, 4, 4))


def _merge_kernel(w: Tensor) -> Tensor:
    return w.unflatten(1, (2, 2, -1)).permute(0, 3, 1, 2)


def _split_kernel(w: Tensor) -> Tensor:
    return w.unflatten(0, (2, 2, -1)).permute(3, 2, 0, 1)


def _same(w: Tensor) -> Tensor:
    return w


@dataclass(frozen=True)
class Rule:
    """One family of names: official pattern and our pattern share the groups; reshaping there and back."""

    official: str
    ours: str
    there: Callable[[Tensor], Tensor] = _same
    back: Callable[[Tensor], Tensor] = _same


# patterns after the flat block index has been replaced by stage and index, in order of trial
_RULES = [
    Rule("patch_embed.proj.weight", "trunk.patch_embed.proj.weight", _flat, _stem_kernel),
    Rule("patch_embed.proj.bias", "trunk.patch_embed.proj.bias"),
    Rule("stage12.{s}.{i}.norm2.{p}", "trunk.stage{s}.{i}.norm.{p}"),
    Rule("stage12.{s}.{i}.mlp.ffn_ln.{p}", "trunk.stage{s}.{i}.mlp.norm.{p}"),
    Rule("stage12.{s}.{i}.mlp.{f}.weight", "trunk.stage{s}.{i}.mlp.{f}.weight", _flat, _kernel),
    Rule("stage12.{s}.{i}.mlp.{f}.bias", "trunk.stage{s}.{i}.mlp.{f}.bias"),
    Rule("merge.{s}.reduction.weight", "trunk.merge{s}.reduction.weight", _merge, _merge_kernel),
    Rule("merge.{s}.{f}.{p}", "trunk.merge{s}.{f}.{p}"),
    Rule("stage3.{i}.mlp.ffn_ln.{p}", "trunk.stage3.{i}.mlp.norm.{p}"),
    Rule("stage3.{i}.{r}", "trunk.stage3.{i}.{r}"),
    Rule("norm.{p}", "trunk.norm.{p}"),
    Rule("fc_norm.{p}", "fc_norm.{p}"),
    Rule("head.{p}", "head.{p}"),
    Rule("align_dim_16tofpn.weight", "pyramid.align_p4.weight", _flat, _kernel),
    Rule("align_dim_16tofpn.bias", "pyramid.align_p4.bias"),
    Rule("align_dim_16to8.weight", "pyramid.lateral_p3.weight", _flat, _kernel),
    Rule("align_dim_16to8.bias", "pyramid.lateral_p3.bias"),
    Rule("align_dim_8to4.weight", "pyramid.lateral_p2.weight", _flat, _kernel),
    Rule("align_dim_8to4.bias", "pyramid.lateral_p2.bias"),
]
for _level, _official in (("p3", "16to8"), ("p2", "8to4")):
    _RULES += [
        Rule(f"split_{_official}.norm.{{p}}", f"pyramid.split_{_level}.norm.{{p}}"),
        Rule(
            f"split_{_official}.reduction.weight",
            f"pyramid.split_{_level}.reduction.weight",
            _split,
            _split_kernel,
        ),
        Rule(f"split_{_official}.reduction.bias", f"pyramid.split_{_level}.bias"),
        Rule(f"block_{_official}.{{i}}.norm2.{{p}}", f"pyramid.blocks_{_level}.{{i}}.norm.{{p}}"),
        Rule(
            f"block_{_official}.{{i}}.mlp.{{f}}.weight",
            f"pyramid.blocks_{_level}.{{i}}.mlp.{{f}}.weight",
            _flat,
            _kernel,
        ),
        Rule(f"block_{_official}.{{i}}.mlp.{{f}}.bias", f"pyramid.blocks_{_level}.{{i}}.mlp.{{f}}.bias"),
    ]
for _index, _level in enumerate(("p4", "p3", "p2")):
    _RULES += [
        Rule(f"fpn_modules.{_index}.norm2.{{p}}", f"pyramid.out_{_level}.norm.{{p}}"),
        Rule(
            f"fpn_modules.{_index}.mlp.{{f}}.weight", f"pyramid.out_{_level}.mlp.{{f}}.weight", _flat, _kernel
        ),
        Rule(f"fpn_modules.{_index}.mlp.{{f}}.bias", f"pyramid.out_{_level}.mlp.{{f}}.bias"),
    ]
_GROUPS = {"s": r"[12]", "i": r"\d+", "p": "weight|bias", "f": r"\w+", "r": r".+"}
_PRETRAINING = ("mask_token", "decoder_embed.", "lm_head.")


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(re.sub(r"{(\w)}", lambda m: f"(?P<{m[1]}>{_GROUPS[m[1]]})", escaped) + "$")


_THERE = [(_pattern(r.official), r) for r in _RULES]
_BACK = [(_pattern(r.ours), r) for r in _RULES]


def to_native(state: State) -> Mapped:
    """Translate an official Fast-iTPN state dict (classifier or pre-training); one in our names passes
    through.

    Ours may be that of a trunk, a backbone, a classifier, a detector or a pre-training model: the part from
    ``trunk.`` on and its siblings are found wherever they lie.

    Raises:
        CheckpointError: the names are of neither layout.
    """
    if any(re.search(r"(^|\.)stage3\.\d+\.", k) for k in state):
        return Mapped(_strip_prefix(state), "itpn_d2")
    if "pos_embed" not in state or not any(k.endswith("attn.q_proj.weight") for k in state):
        shown = ", ".join(list(state)[:4])
        raise CheckpointError(
            f"the names are those of no known model ({shown}, ...): expected a Fast-iTPN checkpoint"
        )
    return _from_official(state)


def _strip_prefix(state: State) -> State:
    """``backbone.trunk.x`` or ``x`` of a bare trunk to ``trunk.x``; names outside the backbone keep
    theirs."""
    at = next((k.index("trunk.") for k in state if re.search(r"(^|\.)trunk\.", k)), None)
    if at is None:
        return {f"trunk.{k}": v for k, v in state.items()}
    prefix = next(k for k in state if "trunk." in k)[:at]
    return {k.removeprefix(prefix): v for k, v in state.items()}


def _places(state: State) -> dict[int, str]:
    """Flat block index to ``stage12.1.0``, ``merge.1``, ..., by which blocks merge and which attend."""
    indices = sorted({int(k.split(".")[1]) for k in state if k.startswith("blocks.")})
    merges = [i for i in indices if f"blocks.{i}.reduction.weight" in state]
    if len(merges) != 2:
        raise CheckpointError(f"found {len(merges)} patch merges among blocks.*, a Fast-iTPN trunk has 2")
    places = {}
    for i in indices:
        if i in merges:
            places[i] = f"merge.{merges.index(i) + 1}"
        elif i < merges[0]:
            places[i] = f"stage12.1.{i}"
        elif i < merges[1]:
            places[i] = f"stage12.2.{i - merges[0] - 1}"
        else:
            places[i] = f"stage3.{i - merges[1] - 1}"
    return places


def _grid(table: Tensor) -> Tensor:
    """``(1, N, C)`` to ``(1, h, w, C)``; a table that is a grid already stays. The layout stores no grid, so
    it must be square."""
    if table.ndim == 4:
        return table
    side = math.isqrt(table.shape[1])
    if side * side != table.shape[1]:
        raise CheckpointError(
            f"pos_embed has {table.shape[1]} positions, which is no square grid: "
            f"reshape it to (1, rows, columns, C)"
        )
    return table.unflatten(1, (side, side))


def _from_official(state: State) -> Mapped:
    places = _places(state)
    out: State = {}
    ignored = []
    out["trunk.pos_embed"] = _grid(state["pos_embed"])
    for key, value in state.items():
        if key == "pos_embed" or re.search(r"attn\.[qkv]_proj\.weight$", key):
            continue
        name = key
        if match := re.match(r"blocks\.(\d+)\.(.*)", key):
            name = f"{places[int(match[1])]}.{match[2]}"
        rule, found = next(((r, m) for p, r in _THERE if (m := p.match(name))), (None, None))
        if rule is None or found is None or key.startswith(_PRETRAINING):
            ignored.append(key)
        else:
            out[rule.ours.format(**found.groupdict())] = rule.there(value)
    for i, place in places.items():
        if place.startswith("stage3."):
            parts = [state[f"blocks.{i}.attn.{n}_proj.weight"] for n in "qkv"]
            out[f"trunk.{place}.attn.qkv.weight"] = torch.cat(parts)
    return Mapped({k: v.contiguous() for k, v in out.items()}, "official", ignored)


def from_native(state: State) -> State:
    """Our names to the official layout; the inverse of :func:`to_native` on what it maps, bit for bit.

    Raises:
        CheckpointError: a key has no official counterpart.
    """
    state = _strip_prefix(state)
    depths = [
        1 + max(int(k.split(".")[2]) for k in state if k.startswith(f"trunk.stage{s}.")) for s in (1, 2, 3)
    ]
    first = {"1": 0, "2": depths[0] + 1, "3": depths[0] + depths[1] + 2}
    out: State = {}
    for key, value in state.items():
        if key == "trunk.pos_embed":
            out["pos_embed"] = value.flatten(1, 2)
            continue
        rule, found = next(((r, m) for p, r in _BACK if (m := p.match(key))), (None, None))
        if rule is None or found is None:
            raise CheckpointError(f"{key} has no counterpart in the official layout")
        name = rule.official.format(**found.groupdict())
        if match := re.match(r"stage(?:12\.)?(\d)\.(\d+)\.(.*)", name):
            name = f"blocks.{first[match[1]] + int(match[2])}.{match[3]}"
        elif match := re.match(r"merge\.(\d)\.(.*)", name):
            name = f"blocks.{(depths[0], depths[0] + depths[1] + 1)[int(match[1]) - 1]}.{match[2]}"
        if name.endswith("attn.qkv.weight"):
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                out[name.replace("qkv", f"{letter}_proj")] = part
        else:
            out[name] = rule.back(value)
    return {k: v.contiguous() for k, v in out.items()}
