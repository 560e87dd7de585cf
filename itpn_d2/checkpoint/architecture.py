"""What a state dict says about the model it belongs to: sizes are read from shapes, never from file names."""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..backbone import create_model
from ..errors import CheckpointError
from .detector_models import create_detector
from .detectors import detector_layout
from .key_maps import to_native
from .safe_load import load_state_file
from .state import find_state, unwrap

State = dict[str, Tensor]
_HEAD_DIM = 64  # of every published trunk; only relative tables show it


@dataclass(frozen=True)
class Architecture:
    """A trunk, its pyramid (``fpn_dim`` None: none) and its classifier (``num_classes`` None: none).

    ``num_heads`` is None where no shape shows it; ``layer_scale`` says whether there is one;
    ``pooled_norm`` is what stands before the head: ``layer``, ``batch`` (linear probing) or ``none``.
    """

    family: str
    channels: tuple[int, int, int]
    depths: tuple[int, int, int]
    stage_mlp_ratio: float
    mlp_ratio: float
    num_heads: int | None
    layer_scale: bool
    rel_pos: str
    in_channels: int
    pos_grid: tuple[int, int]
    rel_pos_grid: tuple[int, int] | None
    final_norm: bool
    pooled_norm: str
    fpn_dim: int | None
    fpn_depth: int | None
    pyramid_mlp_ratio: float | None
    num_classes: int | None

    def __str__(self) -> str:
        sizes = "/".join(map(str, self.channels)), "/".join(map(str, self.depths))
        words = ["Fast-iTPN" if self.family == "fast_itpn" else "iTPN v1", f"{sizes[0]} x {sizes[1]} blocks"]
        words.append(f"{self.in_channels} bands, grid {self.pos_grid[0]}x{self.pos_grid[1]}")
        words += ["layer scale"] * self.layer_scale
        words += [f"relative positions ({self.rel_pos})"] * (self.rel_pos != "none")
        if self.fpn_dim is not None:
            words.append(f"pyramid {self.fpn_dim} x {self.fpn_depth}")
        words += [f"{self.num_classes} classes"] * (self.num_classes is not None)
        return ", ".join(words)

    def unlike(self, model: "Architecture") -> list[str]:
        """How the trunk of ``model`` would have to be built to compute what this one does; [] if it does.

        A shorter third stage is no difference: pre-training may leave out the last blocks.
        """
        remedies = []
        for name in ("family", "channels", "stage_mlp_ratio", "mlp_ratio", "num_heads", "layer_scale"):
            mine, other = getattr(self, name), getattr(model, name)
            if mine != other and mine is not None and other is not None:
                if name == "layer_scale":
                    mine, other = (0.1 if mine else None), (0.1 if other else None)
                remedies.append(f"{name}={mine!r} (not {other!r})")
        if self.depths[:2] != model.depths[:2] or self.depths[2] > model.depths[2]:
            remedies.append(f"depths={self.depths} (not {model.depths})")
        return remedies

    def pyramid_unlike(self, model: "Architecture") -> list[str]:
        """The same of the pyramid, where both have one."""
        if self.fpn_dim is None or model.fpn_dim is None:
            return []
        names = ["fpn_dim", "fpn_depth", "pyramid_mlp_ratio"]
        if self._pyramid_ratio_of(model):
            names.pop()
        pairs = ((n, getattr(self, n), getattr(model, n)) for n in names)
        return [f"{n}={mine!r} (not {other!r})" for n, mine, other in pairs if mine != other]

    def _pyramid_ratio_of(self, other: "Architecture") -> bool:
        """Whether one ratio gives the hidden widths of both, each of which is floored."""
        assert self.fpn_dim and other.fpn_dim and self.pyramid_mlp_ratio and other.pyramid_mlp_ratio
        mine = int(self.fpn_dim * self.pyramid_mlp_ratio)
        theirs = int(other.fpn_dim * other.pyramid_mlp_ratio)
        smallest = max(mine / self.fpn_dim, theirs / other.fpn_dim)
        return smallest < min((mine + 1) / self.fpn_dim, (theirs + 1) / other.fpn_dim)

    def options(self) -> dict[str, Any]:
        """Arguments of :func:`itpn_d2.create_model` for the trunk."""
        of_others = {"fpn_dim", "fpn_depth", "pyramid_mlp_ratio", "num_classes", "pooled_norm"}
        names = {f.name for f in fields(self)} - {"family", "rel_pos", "rel_pos_grid", *of_others}
        chosen = {n: getattr(self, n) for n in names}
        chosen["num_heads"] = self.num_heads or max(1, self.channels[2] // _HEAD_DIM)
        chosen["layer_scale"] = 0.1 if self.layer_scale else None
        if self.family == "itpn":
            chosen.update(rel_pos=self.rel_pos, rel_pos_grid=self.rel_pos_grid)
        return chosen


def architecture(state: State) -> Architecture:
    """The architecture of a state dict in our names (see :func:`to_native`).

    Raises:
        CheckpointError: a tensor that every trunk has is missing, or not of such a shape.
    """
    try:
        return _read(state)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"no whole trunk of iTPN or Fast-iTPN: {error} is missing or misshapen"
        ) from error


def _read(state: State) -> Architecture:
    v1 = "trunk.patch_embed.norm.weight" in state
    stem, pos = state["trunk.patch_embed.proj.weight"], state["trunk.pos_embed"]
    channels = len(stem), *(len(state[f"trunk.merge{s}.reduction.weight"]) for s in (1, 2))
    first = f"trunk.stage3.0.mlp.{'fc1' if v1 else 'w1'}.weight"
    bias = {k.rsplit(".", 1)[1]: v for k, v in state.items() if k.startswith("trunk.stage3.0.attn.rel_pos.")}
    heads, bias_grid = None, None
    if "table" in bias:
        heads = bias["table"].shape[3]
        bias_grid = ((bias["table"].shape[1] + 1) // 2, (bias["table"].shape[2] + 1) // 2)
    elif "rows" in bias:
        heads = channels[2] // bias["rows"].shape[3]
        bias_grid = ((bias["rows"].shape[1] + 1) // 2, (bias["columns"].shape[2] + 1) // 2)
    fpn_dim, fpn_depth, fpn_ratio = None, None, None
    if "pyramid.split_p3.reduction.weight" in state:
        fpn_dim = len(state["pyramid.split_p3.reduction.weight"]) // 4
        fpn_depth = _count(state, "pyramid.blocks_p3.")
        # the hidden width is floored: half a channel more gives it back exactly
        fpn_ratio = (len(state["pyramid.out_p3.mlp.fc1.weight"]) + 0.5) / fpn_dim
    return Architecture(
        family="itpn" if v1 else "fast_itpn",
        channels=(channels[0], channels[1], channels[2]),
        depths=(
            _count(state, "trunk.stage1."),
            _count(state, "trunk.stage2."),
            _count(state, "trunk.stage3."),
        ),
        stage_mlp_ratio=len(state["trunk.stage1.0.mlp.fc1.weight"]) / channels[0],
        mlp_ratio=len(state[first]) / channels[2],
        num_heads=heads,
        layer_scale="trunk.stage3.0.gamma_1" in state,
        rel_pos="table" if "table" in bias else "decomposed" if "rows" in bias else "none",
        in_channels=stem.shape[1] // 16,
        pos_grid=(pos.shape[1], pos.shape[2]),
        rel_pos_grid=bias_grid,
        final_norm="trunk.norm.weight" in state,
        pooled_norm=_pooled_norm(state),
        fpn_dim=fpn_dim,
        fpn_depth=fpn_depth,
        pyramid_mlp_ratio=fpn_ratio,
        num_classes=len(state["head.weight"]) if "head.weight" in state else None,
    )


def _pooled_norm(state: State) -> str:
    if "fc_norm.running_mean" in state:
        return "batch"
    return "layer" if "fc_norm.weight" in state else "none"


def _count(state: State, start: str) -> int:
    """Blocks of a list; ValueError where one is missing in between."""
    found = {int(m[1]) for k in state if (m := re.match(rf"{re.escape(start)}(\d+)\.", k))}
    if found != set(range(len(found))):
        raise ValueError(f"block {min(set(range(max(found))) - found)} of {start}*")
    return len(found)


def create_from_checkpoint(
    source: str | Path | dict[str, Any], pyramid: bool | None = None, **overrides: Any
) -> nn.Module:
    """A model of the sizes of a checkpoint, loaded: a backbone, a classifier, a bare trunk, or a published
    DINO or Mask DINO over a given backbone.

    Args:
        source: a file of any known layout, or its contents.
        pyramid: False leaves the file's pyramid out; None: takes it if there is one.
        overrides: arguments of :func:`itpn_d2.create_model` that replace what the file says, such as
            ``drop_path`` or ``pos_grid``, to which tables are then adapted. The width of a head shows only in
            relative tables; without them it is 64, as in every published trunk, unless ``num_heads`` says
            otherwise. Of a detector: ``backbone``, any of Detectron2's, which gets the file's weights where
            it has the same names; ``num_heads`` (8, as in every published file), ``feature_order`` (of a Mask
            DINO whose maps have all the same number of channels), ``in_features`` (the coarsest maps of the
            backbone) and arguments of :class:`~itpn_d2.meta_arch.DINO` or ``MaskDINO``: what no shape shows
            is ``num_queries`` of a two-stage Mask DINO (300), ``box_init`` (``mask2box``), ``task``
            (``instance``; of K + 1 logits ``semantic``) with ``num_classes``, the things, for ``panoptic``,
            and ``groups`` (32).

    Raises:
        CheckpointError: see :func:`load_pretrained`.
    """
    from .loading import load_pretrained, local_path

    content = source if isinstance(source, dict) else load_state_file(local_path(str(source)))
    file = "" if isinstance(source, dict) else str(source)
    try:
        stored = find_state(content)
        if detector_layout(stored.state) is not None:
            return create_detector(stored, name=file, **{"backbone": None, **overrides})
        found = architecture(to_native(unwrap(content)).state)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}" if file else str(error)) from error
    options = found.options()
    if pyramid or (pyramid is None and found.fpn_dim is not None):
        options.update(pyramid=True)
        if found.fpn_dim is not None:
            options.update(
                fpn_dim=found.fpn_dim, fpn_depth=found.fpn_depth, pyramid_mlp_ratio=found.pyramid_mlp_ratio
            )
    elif found.num_classes is not None:
        pooling = {"layer": "mean_then_norm", "batch": "mean_then_batch_norm"}.get(found.pooled_norm)
        pooling = pooling or ("norm_then_mean" if found.final_norm else "mean_then_norm")
        options.update(num_classes=found.num_classes, pooling=pooling)
    model = create_model(f"{found.family}_nano", **{**options, **overrides})
    load_pretrained(model, source)
    return model
