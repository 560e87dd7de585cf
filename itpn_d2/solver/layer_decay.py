"""AdamW parameter groups with layer-wise learning-rate decay, and their printed table.

The scale of a layer is ``decay ** (layers + 1 - id)``: the patch embedding and the position table have id 0,
block ``i`` of the trunk (counted over the three stages) has id ``i + 1``, a merge has the id of the block
before it, and everything else - final norm, pyramid, heads - has scale 1. The reference detection code
forgets that merges are in its block list, which gives the last block 1.11 times the base rate, and leaves the
position table at the full rate; this does neither.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

_BLOCK = re.compile(r"^stage(\d)\.(\d+)\.")
_MERGE = re.compile(r"^merge(\d)\.")


def layer_id(name: str, depths: tuple[int, ...]) -> int:
    """Layer of a trunk parameter ``name`` (without prefix), 0 to ``sum(depths) + 1``."""
    if name.startswith(("patch_embed.", "pos_embed")):
        return 0
    if match := _BLOCK.match(name):
        stage, index = int(match[1]), int(match[2])
        return sum(depths[: stage - 1]) + index + 1
    if match := _MERGE.match(name):
        return sum(depths[: int(match[1])])
    return sum(depths) + 1


@dataclass(frozen=True)
class ParameterRule:
    """What one parameter gets: its learning-rate scale and its weight decay."""

    name: str
    lr_scale: float
    weight_decay: float


def parameter_rules(
    model: nn.Module, weight_decay: float = 0.05, layer_decay: float = 1.0
) -> list[tuple[nn.Parameter, ParameterRule]]:
    """The rule of every trainable parameter of ``model``, each parameter once.

    Not decayed: biases, norms, layer scales (everything with at most one dimension) and what a module's
    ``no_weight_decay()`` names. A trunk is any module with ``depths`` and ``patch_embed``.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay {layer_decay}: choose a value in (0, 1]; 1 is no decay")
    trunks = {n: m for n, m in model.named_modules() if hasattr(m, "depths") and hasattr(m, "patch_embed")}
    undecayed: set[str] = set()
    for prefix, module in model.named_modules():
        if callable(getattr(module, "no_weight_decay", None)):
            undecayed |= {f"{prefix}.{n}" if prefix else n for n in module.no_weight_decay()}
    rules = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        for prefix, trunk in trunks.items():
            start = f"{prefix}." if prefix else ""
            if name.startswith(start):
                last = sum(trunk.depths) + 1
                scale = layer_decay ** (last - layer_id(name[len(start) :], trunk.depths))
        decay = 0.0 if parameter.ndim <= 1 or name in undecayed else weight_decay
        rules.append((parameter, ParameterRule(name, scale, decay)))
    return rules


def parameter_groups(
    model: nn.Module, lr: float, weight_decay: float = 0.05, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Optimizer groups of ``model``: one for each (scale, weight decay) pair, lowest learning rate first.

    Use as ``L(torch.optim.AdamW)(params=L(parameter_groups)(model=..., lr="${..lr}"), lr=...)``.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter, rule in parameter_rules(model, weight_decay, layer_decay):
        group = groups.setdefault(
            (rule.lr_scale, rule.weight_decay),
            {"params": [], "lr": lr * rule.lr_scale, "weight_decay": rule.weight_decay},
        )
        group["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def group_table(rules: Iterable[tuple[nn.Parameter, ParameterRule]], lr: float) -> str:
    """The groups as a printable table: learning rate, scale, weight decay, tensors, parameters, an
    example."""
    rows: dict[tuple[float, float], list[tuple[nn.Parameter, ParameterRule]]] = {}
    for parameter, rule in rules:
        rows.setdefault((rule.lr_scale, rule.weight_decay), []).append((parameter, rule))
    lines = [f"{'lr':>10} {'scale':>8} {'decay':>6} {'tensors':>8} {'parameters':>12}  first and last"]
    for (scale, decay), members in sorted(rows.items()):
        count = sum(p.numel() for p, _ in members)
        span = f"{members[0][1].name} .. {members[-1][1].name}"
        lines.append(f"{lr * scale:10.3g} {scale:8.4f} {decay:6.3g} {len(members):8d} {count:12,d}  {span}")
    return "\n".join(lines)
