"""The architecture of the model that a state dict belongs to: sizes are read from shapes, never from file
names."""

import re
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from ..errors import CheckpointError

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

    def pyramid_options(self) -> dict[str, Any]:
        """Its arguments for the pyramid; {} without one."""
        if self.fpn_dim is None:
            return {}
        return {n: getattr(self, n) for n in ("fpn_dim", "fpn_depth", "pyramid_mlp_ratio")}

    def classifier_options(self) -> dict[str, Any]:
        """Its arguments for the classifier; {} without one."""
        if self.num_classes is None:
            return {}
        pooling = {"layer": "mean_then_norm", "batch": "mean_then_batch_norm"}.get(self.pooled_norm)
        pooling = pooling or ("norm_then_mean" if self.final_norm else "mean_then_norm")
        return {"num_classes": self.num_classes, "pooling": pooling}


def architecture(state: State) -> Architecture:
    """The architecture of a state dict in our names (see :func:`.to_native`).

    Raises:
        CheckpointError: a tensor that every trunk has is missing, or not of such a shape.
    """
    v1 = "trunk.patch_embed.norm.weight" in state
    stem = _sizes(state, "trunk.patch_embed.proj.weight", 2)
    positions = _sizes(state, "trunk.pos_embed", 4)
    merges = [_sizes(state, f"trunk.merge{s}.reduction.weight", 2)[0] for s in (1, 2)]
    channels = stem[0], merges[0], merges[1]
    first = f"trunk.stage3.0.mlp.{'fc1' if v1 else 'w1'}.weight"
    heads, kind, bias_grid = None, "none", None
    start = "trunk.stage3.0.attn.rel_pos"
    if f"{start}.table" in state:
        _, rows, columns, heads = _sizes(state, f"{start}.table", 4)
        kind, bias_grid = "table", ((rows + 1) // 2, (columns + 1) // 2)
    elif f"{start}.rows" in state:
        upright, level = _sizes(state, f"{start}.rows", 4), _sizes(state, f"{start}.columns", 4)
        heads = channels[2] // upright[3]
        kind, bias_grid = "decomposed", ((upright[1] + 1) // 2, (level[2] + 1) // 2)
    fpn_dim, fpn_depth, fpn_ratio = None, None, None
    if "pyramid.split_p3.reduction.weight" in state:
        fpn_dim = _sizes(state, "pyramid.split_p3.reduction.weight", 2)[0] // 4
        fpn_depth = _count(state, "pyramid.blocks_p3.")
        if not fpn_dim:
            raise CheckpointError(
                "pyramid.split_p3.reduction.weight has fewer than 4 rows, which no pyramid has"
            )
        # the hidden width is floored: half a channel more gives it back exactly
        fpn_ratio = (_sizes(state, "pyramid.out_p3.mlp.fc1.weight", 2)[0] + 0.5) / fpn_dim
    return Architecture(
        family="itpn" if v1 else "fast_itpn",
        channels=channels,
        depths=(
            _count(state, "trunk.stage1."),
            _count(state, "trunk.stage2."),
            _count(state, "trunk.stage3."),
        ),
        stage_mlp_ratio=_sizes(state, "trunk.stage1.0.mlp.fc1.weight", 2)[0] / channels[0],
        mlp_ratio=_sizes(state, first, 2)[0] / channels[2],
        num_heads=heads,
        layer_scale="trunk.stage3.0.gamma_1" in state,
        rel_pos=kind,
        in_channels=stem[1] // 16,
        pos_grid=(positions[1], positions[2]),
        rel_pos_grid=bias_grid,
        final_norm="trunk.norm.weight" in state,
        pooled_norm=_pooled_norm(state),
        fpn_dim=fpn_dim,
        fpn_depth=fpn_depth,
        pyramid_mlp_ratio=fpn_ratio,
        num_classes=_sizes(state, "head.weight", 2)[0] if "head.weight" in state else None,
    )


def _sizes(state: State, name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a tensor that has so many dimensions, none of them empty."""
    if name not in state:
        raise CheckpointError(f"not a complete trunk of iTPN or Fast-iTPN: {name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise CheckpointError(
            f"not a trunk of iTPN or Fast-iTPN: {name} has a wrong shape, {shape} instead of {dimensions} "
            "dimensions"
        )
    return shape


def _pooled_norm(state: State) -> str:
    if "fc_norm.running_mean" in state:
        return "batch"
    return "layer" if "fc_norm.weight" in state else "none"


def _count(state: State, start: str) -> int:
    """Blocks of a list; CheckpointError where one is missing in between."""
    found = sorted({int(m[1]) for k in state if (m := re.match(rf"{re.escape(start)}(\d+)\.", k))})
    for number, block in enumerate(found):
        if block != number:
            raise CheckpointError(
                f"not a complete trunk of iTPN or Fast-iTPN: block {number} of {start}* is missing"
            )
    return len(found)
