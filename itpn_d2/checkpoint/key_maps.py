"""Names and shapes of foreign checkpoints to ours, and back.

Ours is described by the modules themselves (``trunk.*``, ``pyramid.*``); the foreign ones are in
:mod:`.layouts`.
"""

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import CheckpointError
from .detectors import MappedDetector, detector_layout
from .layouts import FAST_ITPN, ITPN_V1, MMPRETRAIN, Layout
from .report import summary
from .timm_trunks import TimmFile, read_timm

State = dict[str, Tensor]


OURS = "itpn_d2"
# blocks.3.reduction.weight, wherever a framework keeps its backbone
_MERGE = re.compile(r"(|.*\.)blocks\.\d+\.reduction\.weight$")
_CAFFE2 = re.compile(r"(conv\d|res\d?_\w+|fpn_\w+|rpn_\w+|fc\d+)_(w|b|bn_[sb])")


@dataclass
class Mapped:
    """A state dict in our names, and the foreign keys that have no counterpart in a backbone or classifier.

    ``network`` is itpn, or timm for a network of timm, whose names here are those of timm; ``timm`` then says
    more of the file. It is detector for a published DINO or Mask DINO, of which ``detector`` says more.
    """

    state: State
    layout: str
    ignored: list[str] = field(default_factory=list)
    network: str = "itpn"
    timm: TimmFile | None = None
    detector: MappedDetector | None = None


def of_timm(file: TimmFile) -> Mapped:
    """What :func:`to_native` gives for a file of a network of timm."""
    return Mapped(file.state, file.kind, file.ignored, "timm", file)


def to_native(state: State) -> Mapped:
    """Translate a foreign state dict (classifier, detector, pre-training); one in our names is returned
    unchanged.

    Ours may be that of a trunk, a backbone, a classifier, a detector or a pre-training model: the part from
    ``trunk.`` on and its siblings are found wherever they lie. So are official ones inside a detector.

    Raises:
        CheckpointError: the names are of no known layout.
    """
    if any(re.search(r"(^|\.)stage3\.\d+\.", k) for k in state):
        return Mapped(_strip_prefix(state), OURS)
    roots = {m[1] for k in state if (m := _MERGE.match(k))}
    if len(roots) == 1:
        root = roots.pop()
        layout = _layout(state, root)
        if layout is not None:
            return _from_official(state, layout, root)
    elif file := read_timm(state):
        return of_timm(file)
    if found := detector_layout(state):
        raise CheckpointError(
            f"it contains a detector in the layout {found[0].name}: load it into a DINO or Mask DINO, "
            "such as that of itpn_d2.checkpoint.create_from_checkpoint(file, backbone=...)"
        )
    if any(_CAFFE2.fullmatch(key) for key in state):
        raise CheckpointError(
            "its names are those of Caffe2's Detectron: convert it with Detectron2 "
            "(detectron2.checkpoint.c2_model_loading), whose layout is known here"
        )
    shown = ", ".join(list(state)[:4])
    raise CheckpointError(
        f"unknown checkpoint layout ({shown}, ...): expected a checkpoint of Fast-iTPN, iTPN, HiViT, "
        "FastMIM's networks, or a network of timm"
    )


def _layout(state: State, root: str) -> Layout | None:
    if f"{root}{ITPN_V1.positions}" in state:
        return ITPN_V1
    if f"{root}{FAST_ITPN.positions}" not in state:
        return None
    split = any(k.startswith(root) and k.endswith("attn.q_proj.weight") for k in state)
    return FAST_ITPN if split else MMPRETRAIN


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
        raise CheckpointError(f"found {len(merges)} patch merges among blocks.*, but an iTPN trunk has 2")
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


def _from_official(state: State, layout: Layout, root: str) -> Mapped:
    """``root`` is what stands before the names; beside ``backbone.`` may lie a ``neck.`` with the pyramid."""
    roots = (root, "neck.") if root == "backbone." else (root,)
    names = {k: next((k[len(r) :] for r in roots if k.startswith(r)), "") for k in state}
    places = _places({n: state[k] for k, n in names.items() if n})
    out: State = {}
    ignored = []
    for key, name in names.items():
        if layout.split_qkv and re.search(r"attn\.[qkv]_proj\.weight$", name):
            continue
        known = not name or name.startswith(layout.ignored) or name.endswith(".relative_position_index")
        if match := re.match(r"blocks\.(\d+)\.(.*)", name):
            name = f"{places[int(match[1])]}.{match[2]}"
        found = None if known else layout.rules.to_ours(name, state[key])
        if found is None:
            ignored.append(key)
        else:
            out[found[0]] = found[1]
    if layout.split_qkv:
        for i, place in places.items():
            if place.startswith("stage3."):
                parts = [f"{root}blocks.{i}.attn.{n}_proj.weight" for n in "qkv"]
                if lost := [p for p in parts if p not in state]:
                    raise CheckpointError(f"{lost[0]} is missing: fetch the file again")
                shapes = [tuple(state[p].shape) for p in parts]
                if len(set(shapes)) > 1 or len(shapes[0]) != 2:
                    raise CheckpointError(f"{parts[0]} and those of k and v have the shapes {shapes}")
                out[f"trunk.{place}.attn.qkv.weight"] = torch.cat([state[p] for p in parts])
    return Mapped({k: v.contiguous() for k, v in out.items()}, layout.name, ignored)


def from_native(state: State) -> State:
    """Our names to the official layout; the inverse of :func:`to_native` on what it maps, bit for bit.

    Raises:
        CheckpointError: the official layout has no place for a tensor, or can't hold its grid.
    """
    state = _strip_prefix(state)
    layout = ITPN_V1 if "trunk.patch_embed.norm.weight" in state else FAST_ITPN
    for key, value in state.items():
        grid = value.shape[1:3] if key.endswith(("pos_embed", "rel_pos.table")) else (0, 0)
        if grid[0] != grid[1]:
            raise CheckpointError(
                f"{key} has the grid {grid[0]}x{grid[1]}; the {layout.name} layout supports only square "
                f"grids, without their size: keep the layout {OURS}, or load the file into a model of a "
                "square pos_grid first"
            )
    named: dict[str, tuple[str, Tensor]] = {}
    lost = []
    for key, value in state.items():
        if found := layout.rules.to_official(key, value):
            named[key] = found
        else:
            lost.append(key)
    if lost:
        raise CheckpointError(
            f"the {layout.name} layout has no counterpart of {summary(lost, 2)}: leave these out (--drop "
            f"START for names that begin with START), or keep the layout {OURS}"
        )
    depths = []
    for stage in (1, 2, 3):
        blocks = [int(k.split(".")[2]) for k in state if k.startswith(f"trunk.stage{stage}.")]
        if not blocks:
            raise CheckpointError(
                f"no trunk.stage{stage}.* to write: the official layout needs a complete trunk"
            )
        depths.append(1 + max(blocks))
    first = {"1": 0, "2": depths[0] + 1, "3": depths[0] + depths[1] + 2}
    out: State = {}
    for name, value in named.values():
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
