"""Published checkpoints of DINO and Mask DINO in our names and order, and back.

Apart from names, two things differ. Mask DINO has its levels finest first in one of encoder and decoder,
coarsest first in the other; here they are finest first, so weights of the deformable attention are put in
that order, which takes the number of heads. And the embedding of a query's box is y, x, w, h with a sine
beside its cosine there; the layer that reads it gets its columns in our order.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import CheckpointError
from .detector_layouts import DETECTORS, DETREX, MASK_DINO, DetectorLayout
from .report import summary

State = dict[str, Tensor]
FeatureOrder = Literal["low2high", "high2low"]
_QUERY_WAVES = "decoder.position.0.weight"
_DIMENSIONS = tuple(
    (re.compile(pattern), count)
    for pattern, count in (
        (r"neck\.project\.\d+\.0\.weight", 4),
        (r"pixel_features\.(lateral\.0|proj)\.weight", 4),
        (r"(decoder\.position\.0|denoising\.labels|content|(selection\.)?class_head(\.\d+)?)\.weight", 2),
        (r"(encoder|decoder)\.layers\.\d+\.(attention\.\w+|feed_forward\.\d)\.weight", 2),
        (r"encoder\.level", 2),
        (r"encoder\.layers\.0\.norm1\.weight", 1),
    )
)
_LEVELLED = re.compile(r"(encoder|decoder)\.layers\.\d+\.attention\.(offsets|weights)\.(weight|bias)$")


@dataclass
class MappedDetector:
    """A detector's heads in our names.

    Attributes:
        layout: ``detrex``, ``dino`` or ``maskdino``, which are the names of :mod:`.reference` too.
        backbone: names of its backbone, which are left as they are.
        ignored: further names, that others stand for too or that nothing here has.
        feature_order: Mask DINO's FEATURE_ORDER, as the file has it.
        prefix: before all of its names.
    """

    state: State
    layout: str
    backbone: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    feature_order: FeatureOrder | None = None
    prefix: str = ""


def detector_layout(state: State) -> tuple[DetectorLayout, str] | None:
    """The layout of a published DINO or Mask DINO and what stands before all of its names (as
    ``sem_seg_head.``); None for anything else."""
    for layout in DETECTORS:
        for key in state:
            if key.endswith(layout.mark) and (key == layout.mark or key[: -len(layout.mark)].endswith(".")):
                return layout, key[: -len(layout.mark)]
    return None


def to_native_detector(
    state: State, num_heads: int = 8, feature_order: FeatureOrder | None = None
) -> MappedDetector:
    """The heads of a published detector in our names.

    Args:
        num_heads: of the attentions, which no shape shows. Every published file has 8.
        feature_order: of a Mask DINO whose maps have all the same number of channels; else it shows.

    Raises:
        CheckpointError: it is none of them, or differs from its layout in a way that has no place here.
    """
    found = detector_layout(state)
    if found is None:
        raise CheckpointError(
            f"the names match no published DINO or Mask DINO ({summary(list(state), 3)}): expected those "
            "of detrex, of IDEA-Research/DINO or of IDEA-Research/MaskDINO"
        )
    layout, prefix = found
    if feature_order not in (None, *get_args(FeatureOrder)):
        raise CheckpointError(f"feature_order {feature_order!r}: choose {', '.join(get_args(FeatureOrder))}")
    out: State = {}
    mapped = MappedDetector(out, layout.name, prefix=prefix)
    for key, value in state.items():
        name = key.removeprefix(prefix)
        ours = None
        if key.startswith(prefix) and not name.startswith((*layout.aliases, "backbone.")):
            ours = layout.rules.to_ours(name, value)
        if ours is not None:
            out[ours[0]] = ours[1]
        elif "backbone." in key:
            mapped.backbone.append(key)
        else:
            mapped.ignored.append(key)
    _check_dimensions(out)
    _heads(out, layout)
    if layout is not DETREX:
        order = _neck(out, layout, feature_order)
        if layout is MASK_DINO:
            mapped.feature_order = order
            _turn_levels(out, order, num_heads)
    _order_waves(out, _from_theirs)
    if "encoder.level" not in out and "encoder.layers.0.norm1.weight" in out:  # of a single level
        out["encoder.level"] = torch.zeros(1, len(out["encoder.layers.0.norm1.weight"]))
    mapped.state = {k: v.contiguous() for k, v in out.items()}
    return mapped


def _check_dimensions(state: State) -> None:
    """CheckpointError where a tensor whose sizes are read has another number of dimensions."""
    for key, value in state.items():
        wanted = next((count for pattern, count in _DIMENSIONS if pattern.fullmatch(key)), value.ndim)
        if value.ndim != wanted or (key == _QUERY_WAVES and value.shape[1] % 8):
            raise CheckpointError(
                f"{key} has the shape {tuple(value.shape)}, which its layout does not allow"
            )


def from_native_detector(
    state: State,
    layout: str,
    num_heads: int = 8,
    feature_order: FeatureOrder = "low2high",
    prefix: str | None = None,
) -> State:
    """Heads in our names to a published layout, shared modules under every name that they have there; the
    inverse of :func:`to_native_detector`, bit for bit.

    Args:
        layout: ``detrex``, ``dino`` or ``maskdino``.
        prefix: before all names; None: ``sem_seg_head.`` for Mask DINO, nothing for the others.

    Raises:
        CheckpointError: the layout has no place for a tensor.
    """
    kinds = {kind.name: kind for kind in DETECTORS}
    if layout not in kinds:
        raise CheckpointError(f"layout {layout!r}: choose {', '.join(kinds)}")
    kind = kinds[layout]
    prefix = ("sem_seg_head." if kind is MASK_DINO else "") if prefix is None else prefix
    inner = dict(state)
    _order_waves(inner, _to_theirs)
    if kind is MASK_DINO:
        _turn_levels(inner, feature_order, num_heads)
    _unfold_heads(inner, kind)
    if kind is not DETREX:
        _unfold_neck(inner, kind, feature_order)
    out: State = {}
    lost = []
    for key, value in inner.items():
        named = kind.rules.to_official(key, value)
        if named is None:
            lost.append(key)
        else:
            out[named[0]] = named[1].contiguous()
    if lost:
        raise CheckpointError(
            f"the layout {layout} has no place for {summary(lost, 3)}: leave these out, or keep our layout"
        )
    out |= _aliases(out, kind)
    return {prefix + k: v for k, v in out.items()}


def _depth(state: State) -> int:
    return 1 + max((int(m[1]) for k in state if (m := re.match(r"decoder\.layers\.(\d+)\.", k))), default=-1)


def _heads(state: State, layout: DetectorLayout) -> None:
    """Heads of layers as we have them, in place: the encoder's of detrex are the last of the list; those of
    the official DINO are one, in as many places as there are layers."""
    count = _depth(state)
    if layout is DETREX:
        for key in [k for k in state if k.startswith((f"class_head.{count}.", f"decoder.box_head.{count}."))]:
            start, rest = key.split(f"_head.{count}.")
            state[f"selection.{start.removeprefix('decoder.')}_head.{rest}"] = state.pop(key)
    elif layout is not MASK_DINO:
        for start in ("class_head", "decoder.box_head"):
            parts = [
                {
                    k.split(".", start.count(".") + 2)[-1]: v
                    for k, v in state.items()
                    if k.startswith(f"{start}.{i}.")
                }
                for i in range(count)
            ]
            same = parts and all(p.keys() == parts[0].keys() for p in parts)
            if same and all(torch.equal(p[k], parts[0][k]) for p in parts[1:] for k in p):
                for key in [k for k in state if k.startswith(f"{start}.")]:
                    del state[key]
                state.update({f"{start}.{k}": v for k, v in parts[0].items()})


def _unfold_heads(state: State, layout: DetectorLayout) -> None:
    """The inverse of :func:`_heads`."""
    count = _depth(state)
    if layout is DETREX:
        for key in [k for k in state if k.startswith(("selection.class_head.", "selection.box_head."))]:
            start, rest = key.removeprefix("selection.").split("_head.")
            outer = "decoder." if start == "box" else ""
            state[f"{outer}{start}_head.{count}.{rest}"] = state.pop(key)
    elif layout is not MASK_DINO:
        shared = r"(class_head)\.((?:weight|bias))$|(decoder\.box_head)\.(\d+\.(?:weight|bias))$"
        for key in list(state):
            if match := re.match(shared, key):
                start, rest = (part for part in match.groups() if part)
                value = state.pop(key)
                state.update({f"{start}.{i}.{rest}": value for i in range(count)})


def _neck(state: State, layout: DetectorLayout, given: FeatureOrder | None) -> FeatureOrder:
    """Projections of a flat list as ours of maps, finest first, and of extra levels, in place; and the order
    of the file's levels."""
    numbers = sorted({int(m[1]) for k in state if (m := re.match(r"neck\.project\.(\d+)\.0\.weight", k))})
    convolutions = {n: state[f"neck.project.{n}.0.weight"] for n in numbers}
    maps = [n for n in numbers if convolutions[n].shape[-1] == 1]
    extra = [n for n in numbers if convolutions[n].shape[-1] != 1]
    order: FeatureOrder = "low2high"
    if layout is MASK_DINO:
        if len(extra) > 1:
            raise CheckpointError(
                f"a Mask DINO with {len(extra)} further levels: its code gives each of them the positions "
                "of another level, which no model here does; only files with at most one can be used"
            )
        widths = [convolutions[n].shape[1] for n in maps]
        seen: FeatureOrder | None = None
        if widths != widths[::-1]:
            seen = "low2high" if widths[0] < widths[-1] else "high2low"
        if given is not None and seen is not None and seen != given:
            raise CheckpointError(
                f"feature_order={given!r}: the channels of its maps, {widths}, indicate {seen!r}"
            )
        order = seen or given or "low2high"
    if order == "high2low":
        maps = maps[::-1]
    moved = {n: f"neck.project.{k}" for k, n in enumerate(maps)}
    moved |= {n: f"neck.extra.{k}" for k, n in enumerate(extra)}
    _rename(state, "neck.project", moved)
    return order


def _unfold_neck(state: State, layout: DetectorLayout, order: FeatureOrder) -> None:
    """The inverse of :func:`_neck`."""
    count = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("neck.project."))
    reverse = layout is MASK_DINO and order == "high2low"
    extra = {k: v for k, v in state.items() if k.startswith("neck.extra.")}
    for key in extra:
        del state[key]
    _rename(
        state, "neck.project", {k: f"neck.project.{count - 1 - k if reverse else k}" for k in range(count)}
    )
    for key, value in extra.items():
        _, _, number, rest = key.split(".", 3)
        state[f"neck.project.{count + int(number)}.{rest}"] = value


def _rename(state: State, start: str, moved: dict[int, str]) -> None:
    found = {k: state.pop(k) for k in list(state) if k.startswith(f"{start}.")}
    for key, value in found.items():
        number, rest = key.removeprefix(f"{start}.").split(".", 1)
        if int(number) not in moved:
            raise CheckpointError(f"{start}.{number} has no weight, only {rest}: download the file again")
        state[f"{moved[int(number)]}.{rest}"] = value


def _turn_levels(state: State, order: FeatureOrder, num_heads: int) -> None:
    """Levels coarsest first to finest first, or back, in place: in the decoder with low2high, in the encoder
    with high2low."""
    levels = len(state["encoder.level"]) if "encoder.level" in state else 1
    part = "decoder" if order == "low2high" else "encoder"
    for key, value in state.items():
        match = _LEVELLED.match(key)
        if match and match[1] == part:
            try:
                parts = value.unflatten(0, (num_heads, levels, -1))
            except RuntimeError as error:
                raise CheckpointError(
                    f"{key} has {len(value)} rows, which {num_heads} heads and {levels} levels do not "
                    f"divide: give the num_heads that it was trained with"
                ) from error
            state[key] = parts.flip(1).flatten(0, 2)
    if part == "encoder" and "encoder.level" in state:
        state["encoder.level"] = state["encoder.level"].flip(0)


def _order_waves(state: State, order: Callable[[int], Tensor]) -> None:
    if _QUERY_WAVES in state:
        weight = state[_QUERY_WAVES]
        state[_QUERY_WAVES] = weight[:, order(weight.shape[1])]


def _from_theirs(width: int) -> Tensor:
    """For each of our columns (x, y, w, h; sines, then cosines) that of theirs (y, x, w, h; in turn)."""
    theirs = torch.arange(width).view(4, -1, 2)
    return theirs[torch.tensor([1, 0, 2, 3])].transpose(1, 2).flatten()


def _to_theirs(width: int) -> Tensor:
    return _from_theirs(width).argsort()


def _aliases(out: State, layout: DetectorLayout) -> State:
    """Further names of shared modules, with their tensors."""
    more: State = {}
    if layout is not MASK_DINO:
        more |= {
            f"transformer.decoder.{k}": v for k, v in out.items() if re.match(r"(class|bbox)_embed\.", k)
        }
        return more
    count = 1 + max(int(m[1]) for k in out if (m := re.match(r"predictor\.decoder\.layers\.(\d+)\.", k)))
    for key, value in out.items():
        if key.startswith("predictor.decoder_norm."):
            more[key.replace("decoder_norm", "decoder.norm")] = value
        elif key.startswith("predictor._bbox_embed."):
            rest = key.removeprefix("predictor._bbox_embed.")
            for i in range(count):
                more[f"predictor.bbox_embed.{i}.{rest}"] = value
                more[f"predictor.decoder.bbox_embed.{i}.{rest}"] = value
    return more
