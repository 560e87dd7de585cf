"""AdamW parameter groups with layer-wise learning-rate decay, and their printed table.

The scale of a layer is ``decay ** (layers + 1 - id)``: the patch embedding and the position table have id 0,
block ``i`` of the trunk (counted over the three stages) has id ``i + 1``, a merge has the id of the block
before it, and everything else - final norm, pyramid, heads - has scale 1. With ``count_merges`` a merge is a
layer of its own, as in the reference's fine-tuning of Fast-iTPN classifiers. The reference detection code
overlooks that merges are in its block list, which gives the last block 1.11 times the base rate, and leaves
the position table at the full rate; this module does neither. Networks of timm have the same layers
(:func:`itpn_d2.backbone.timm_names.layer_ids`, which agrees with FastMIM's fine-tuning), or their own
(``group_matcher``) where their blocks have unusual names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import group_parameters
from torch import nn

from ..backbone.timm_names import find_networks, layer_ids

_BLOCK = re.compile(r"^stage(\d)\.(\d+)\.")
_MERGE = re.compile(r"^merge(\d)\.")


def layer_id(name: str, depths: tuple[int, ...], count_merges: bool = False) -> int:
    """Layer of a trunk parameter ``name`` (without prefix), 0 to :func:`last_layer`."""
    if name.startswith(("patch_embed.", "pos_embed")):
        return 0
    if match := _BLOCK.match(name):
        stage, index = int(match[1]), int(match[2])
        return sum(depths[: stage - 1]) + index + 1 + (stage - 1) * count_merges
    if match := _MERGE.match(name):
        return sum(depths[: int(match[1])]) + int(match[1]) * count_merges
    return last_layer(depths, count_merges)


def last_layer(depths: tuple[int, ...], count_merges: bool = False) -> int:
    """The layer of everything behind the blocks, whose scale is 1."""
    return sum(depths) + 1 + (len(depths) - 1) * count_merges


@dataclass(frozen=True)
class ParameterRule:
    """What one parameter gets: its learning-rate scale and its weight decay."""

    name: str
    lr_scale: float
    weight_decay: float


def parameter_rules(
    model: nn.Module,
    weight_decay: float = 0.05,
    layer_decay: float = 1.0,
    count_merges: bool = False,
    decayed: Sequence[str] = (),
    undecayed: Sequence[str] = (),
) -> list[tuple[nn.Parameter, ParameterRule]]:
    """The rule of every trainable parameter of ``model``, each parameter once.

    Not decayed: biases, norms, layer scales (everything with at most one dimension), embeddings (the tables
    of ``nn.Embedding``) and what a module's ``no_weight_decay()`` names. A trunk is any module with
    ``depths`` and ``patch_embed`` and stages of ours.

    Args:
        decayed, undecayed: ends of parameter names, such as ``pos_embed`` or ``fill.token``, for which a
            recipe decides otherwise.

    Raises:
        ValueError: ``layer_decay`` is out of range, or less than 1 for a model whose layers are not known; a
            name is in ``decayed`` and in ``undecayed``, or no parameter ends with it.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay {layer_decay}: choose a value in (0, 1]; 1 is no decay")
    trunks = {n: m for n, m in model.named_modules() if hasattr(m, "depths") and hasattr(m, "stage1")}
    foreign = {} if trunks or layer_decay == 1 else _scales_of_timm(model, layer_decay, count_merges)
    kept = _without_decay(model, decayed, undecayed)
    rules = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = foreign.get(name, 1.0)
        for prefix, trunk in trunks.items():
            start = f"{prefix}." if prefix else ""
            if name.startswith(start):
                last = last_layer(trunk.depths, count_merges)
                scale = layer_decay ** (last - layer_id(name[len(start) :], trunk.depths, count_merges))
        rules.append((parameter, ParameterRule(name, scale, 0.0 if name in kept else weight_decay)))
    return rules


def _without_decay(model: nn.Module, decayed: Sequence[str], undecayed: Sequence[str]) -> set[str]:
    """Names of the parameters that are not decayed; see :func:`parameter_rules`."""
    kept: set[str] = set()
    for prefix, module in model.named_modules():
        start = f"{prefix}." if prefix else ""
        if callable(getattr(module, "no_weight_decay", None)):
            kept |= {f"{start}{name}" for name in module.no_weight_decay()}
        if isinstance(module, nn.Embedding):
            kept.add(f"{start}weight")
    names = [name for name, _ in model.named_parameters()]
    kept |= {name for name, parameter in model.named_parameters() if parameter.ndim <= 1}

    def ending(ends: Sequence[str], key: str) -> set[str]:
        found: set[str] = set()
        for end in ends:
            matched = {name for name in names if name == end or name.endswith(f".{end}")}
            if not matched:
                raise ValueError(f"optimizer.params.{key}: no parameter's name ends with {end!r}")
            found |= matched
        return found

    added, removed = ending(undecayed, "undecayed"), ending(decayed, "decayed")
    if added & removed:
        raise ValueError(
            f"optimizer.params: {min(added & removed)} is in decayed and in undecayed; leave one out"
        )
    return (kept | added) - removed


def _scales_of_timm(model: nn.Module, layer_decay: float, count_merges: bool) -> dict[str, float]:
    """Scales of the parameters of timm networks inside ``model``; what stands behind their blocks has 1."""
    scales: dict[str, float] = {}
    for prefix, network in find_networks(model):
        found = layer_ids([name for name, _ in network.named_parameters()], count_merges)
        if found is None:
            found = _by_matcher(network)
        if found is not None:
            ids, last = found
            scales.update({f"{prefix}{n}": layer_decay ** (last - layer) for n, layer in ids.items()})
    if not scales:
        raise ValueError(
            f"layer_decay={layer_decay}: {type(model).__name__} holds neither a trunk of this project nor a "
            f"network of timm whose layers are known; set optimizer.params.layer_decay=1.0"
        )
    return scales


def _by_matcher(network: nn.Module) -> tuple[dict[str, int], int] | None:
    """timm's own layers of a network, or of the one that a feature extractor holds."""
    for prefix, module in network.named_modules():
        matcher = getattr(module, "group_matcher", None)
        if matcher is not None:
            layers = group_parameters(module, matcher(coarse=False), reverse=True)
            start = f"{prefix}." if prefix else ""
            return {f"{start}{n}": layer for n, layer in layers.items()}, max(layers.values())
    return None


def parameter_groups(
    model: nn.Module,
    lr: float,
    weight_decay: float = 0.05,
    layer_decay: float = 1.0,
    count_merges: bool = False,
    decayed: Sequence[str] = (),
    undecayed: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Optimizer groups of ``model``: one for each (scale, weight decay) pair, lowest learning rate first.

    The arguments are those of :func:`parameter_rules`.

    Use as ``L(torch.optim.AdamW)(params=L(parameter_groups)(model=..., lr="${..lr}"), lr=...)``.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    rules = parameter_rules(model, weight_decay, layer_decay, count_merges, decayed, undecayed)
    for parameter, rule in rules:
        group = groups.setdefault(
            (rule.lr_scale, rule.weight_decay),
            {"params": [], "lr": lr * rule.lr_scale, "weight_decay": rule.weight_decay},
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def group_table(optimizer: torch.optim.Optimizer, model: nn.Module) -> str:
    """The groups that an optimizer has as a printable table: learning rate, its part of the optimizer's own,
    weight decay, tensors, parameters, first and last name in ``model``."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    lines = [f"{'lr':>10} {'scale':>8} {'decay':>6} {'tensors':>8} {'parameters':>12}  first and last"]
    for group in optimizer.param_groups:
        members, lr = group["params"], group["lr"]
        scale = lr / optimizer.defaults["lr"] if optimizer.defaults.get("lr") else 1.0
        count = sum(p.numel() for p in members)
        span = f"{names.get(id(members[0]), '?')} .. {names.get(id(members[-1]), '?')}" if members else ""
        decay = group.get("weight_decay", 0.0)
        lines.append(f"{lr:10.3g} {scale:8.4f} {decay:6.3g} {len(members):8d} {count:12,d}  {span}")
    return "\n".join(lines)
