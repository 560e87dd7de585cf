"""Names and shapes of foreign checkpoints to ours, and back.

Ours is described by the modules themselves (``trunk.*``, ``pyramid.*``); the foreign ones are in
:mod:`.layouts`.
"""

import logging
import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .errors import CheckpointError
from .layouts import FAST_ITPN, ITPN_V1, LAYOUTS, Layout

logger = logging.getLogger(__name__)
State = dict[str, Tensor]


@dataclass
class Mapped:
    """A state dict in our names, and the foreign keys that have no place in a backbone or classifier."""

    state: State
    layout: str
    ignored: list[str] = field(default_factory=list)


def to_native(state: State) -> Mapped:
    """Translate an official state dict (classifier, detector, pre-training); one in our names passes through.

    Ours may be that of a trunk, a backbone, a classifier, a detector or a pre-training model: the part from
    ``trunk.`` on and its siblings are found wherever they lie.

    Raises:
        CheckpointError: the names are of no known layout.
    """
    if any(re.search(r"(^|\.)stage3\.\d+\.", k) for k in state):
        return Mapped(_strip_prefix(state), "itpn_d2")
    for layout in LAYOUTS:
        if all(any(key.endswith(mark) for key in state) for mark in layout.marks):
            return _from_official(state, layout)
    shown = ", ".join(list(state)[:4])
    raise CheckpointError(
        f"the names are those of no known model ({shown}, ...): expected a Fast-iTPN or iTPN checkpoint"
    )


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
        raise CheckpointError(f"found {len(merges)} patch merges among blocks.*, an iTPN trunk has 2")
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


def _from_official(state: State, layout: Layout) -> Mapped:
    places = _places(state)
    out: State = {}
    ignored = []
    for key, value in state.items():
        if layout.split_qkv and re.search(r"attn\.[qkv]_proj\.weight$", key):
            continue
        name = key
        if match := re.match(r"blocks\.(\d+)\.(.*)", key):
            name = f"{places[int(match[1])]}.{match[2]}"
        known = key.startswith(layout.ignored) or key.endswith(".relative_position_index")
        found = None if known else layout.rules.to_ours(name, value)
        if found is None:
            ignored.append(key)
        else:
            out[found[0]] = found[1]
    if layout.split_qkv:
        for i, place in places.items():
            if place.startswith("stage3."):
                parts = [state[f"blocks.{i}.attn.{n}_proj.weight"] for n in "qkv"]
                out[f"trunk.{place}.attn.qkv.weight"] = torch.cat(parts)
    return Mapped({k: v.contiguous() for k, v in out.items()}, layout.name, ignored)


def from_native(state: State) -> State:
    """Our names to the official layout; the inverse of :func:`to_native` on what it maps, bit for bit.

    What token migration and gathering have learned is left out, with a warning: the official model is dense,
    and so is ours without it.

    Raises:
        CheckpointError: a key has no official counterpart.
    """
    state = _strip_prefix(state)
    layout = ITPN_V1 if "trunk.patch_embed.norm.weight" in state else FAST_ITPN
    depths = [
        1 + max(int(k.split(".")[2]) for k in state if k.startswith(f"trunk.stage{s}.")) for s in (1, 2, 3)
    ]
    first = {"1": 0, "2": depths[0] + 1, "3": depths[0] + depths[1] + 2}
    out: State = {}
    extra = [key for key in state if key.startswith(("trunk.migration.", "trunk.gathering."))]
    if extra:
        logger.warning("left out, since the official model is dense: %s", ", ".join(extra))
    for key, value in state.items():
        if key in extra:
            continue
        found = layout.rules.to_official(key, value)
        if found is None:
            raise CheckpointError(f"{key} has no counterpart in the official layout")
        name, value = found
        if match := re.match(r"stage(?:12\.)?(\d)\.(\d+)\.(.*)", name):
            name = f"blocks.{first[match[1]] + int(match[2])}.{match[3]}"
        elif match := re.match(r"merge\.(\d)\.(.*)", name):
            name = f"blocks.{(depths[0], depths[0] + depths[1] + 1)[int(match[1]) - 1]}.{match[2]}"
        if layout.split_qkv and name.endswith("attn.qkv.weight"):
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                out[name.replace("qkv", f"{letter}_proj")] = part
        else:
            out[name] = value
    return {k: v.contiguous() for k, v in out.items()}
