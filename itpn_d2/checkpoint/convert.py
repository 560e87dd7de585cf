"""Checkpoints from one layout and file format to another, without a change of a value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files import written_whole
from .addresses import local_path
from .architecture import architecture
from .detector_models import detector_sizes
from .detectors import detector_layout, from_native_detector, to_native_detector
from .key_maps import OURS, Mapped, from_native, to_native
from .report import summary
from .state import WRAPPERS, Stored, find_state
from .state_file import load_state_file
from .write import save_safetensors, save_torch

State = dict[str, Tensor]
LayoutName = Literal["itpn_d2", "official"]
LAYOUTS: tuple[LayoutName, ...] = ("itpn_d2", "official")
SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass
class ConversionReport:
    """What a file holds, what was written, and what was left out."""

    source: str
    layout: str
    contents: str
    target: str = ""
    target_layout: str = ""
    written: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.source} (layout {self.layout})", f"{'holds':>11} {self.contents}"]
        if self.target:
            lines.append(f"{self.target} (layout {self.target_layout})")
        for status in ("written", "dropped", "left_out"):
            names = getattr(self, status)
            lines.append(f"{status.replace('_', ' '):>11} {len(names):5d}")
            if names:
                lines.append(f"{'':17} {summary(names, 2)}")
        return "\n".join(lines)


def inspect(source: str | Path, prefer_average: bool = False, num_heads: int = 8) -> ConversionReport:
    """The contents of a file, without writing anything: everything is ``written`` except tensors without a
    counterpart.

    Raises:
        CheckpointError: it can't be read, or is of no known layout.
    """
    content, stored, mapped = _read(source, prefer_average, num_heads)
    report = _report(source, stored, mapped, num_heads)
    report.written = list(mapped.state)
    report.left_out = [*mapped.ignored, *_beside(content, stored)]
    return report


def convert(
    source: str | Path,
    target: str | Path,
    layout: LayoutName = "itpn_d2",
    wrapper: str = "model",
    drop: Sequence[str] = (),
    prefer_average: bool = False,
    overwrite: bool = False,
    num_heads: int = 8,
) -> ConversionReport:
    """Write the tensors of ``source`` to ``target`` in ``layout``; types stay as they are stored.

    The file is read back and mapped back before it takes its name, so that ``target`` is absent, old, or
    whole and equal to the source bit for bit.

    Args:
        source: a file of any layout that :func:`to_native` knows, or a path of Detectron2's PathManager.
        target: ``.pth`` or ``.pt`` for a torch file, ``.safetensors``; its folder must exist.
        layout: ``itpn_d2`` (a network of timm: timm's names) or ``official`` (of Fast-iTPN or iTPN v1, by the
            trunk; of a published DINO or Mask DINO: its own).
        wrapper: key of the state dict in a torch file (``model``, ``module``, ``state_dict``), '' for none.
        drop: beginnings of names, in our layout, to leave out.
        prefer_average: convert the moving average where there is one, see :func:`find_state`.
        num_heads: of a published DINO or Mask DINO, which no shape shows; all have 8.

    Raises:
        CheckpointError: it can't be read; ``target`` exists, or can't hold it: the message says what to leave
            out or which layout can.
    """
    target = Path(target)
    _check_target(Path(source), target, layout, wrapper, overwrite)
    content, stored, mapped = _read(source, prefer_average, num_heads)
    report = _report(source, stored, mapped, num_heads)
    state, report.dropped = _without(mapped.state, drop)
    origin = content.get("pretraining")
    try:
        out = _in_layout(state, mapped, layout, num_heads)
    except CheckpointError as error:
        raise CheckpointError(f"{target}: {error}") from error
    report.target, report.target_layout = str(target), layout
    report.written = list(out)
    report.left_out = [*mapped.ignored, *_beside(content, stored)]
    kept = origin if layout == OURS and isinstance(origin, dict) else None
    if origin is not None and kept is None:
        report.left_out.append("(pretraining)")
    with written_whole(target) as partial:
        _write(out, partial, wrapper, kept)
        _verify(partial, out, state, target, mapped.network)
    return report


def _detector(state: State, num_heads: int) -> Mapped:
    """A published DINO or Mask DINO: heads in our names beside its backbone, which keeps its own."""
    found = to_native_detector(state, num_heads)
    whole = {**found.state, **{key: state[key] for key in found.backbone}}
    return Mapped(whole, found.layout, found.ignored, "detector", detector=found)


def _read(source: str | Path, prefer_average: bool, num_heads: int) -> tuple[dict[str, Any], Stored, Mapped]:
    content = load_state_file(local_path(source))
    try:
        stored = find_state(content, prefer_average)
        known = detector_layout(stored.state) is not None
        mapped = _detector(stored.state, num_heads) if known else to_native(stored.state)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    if mapped.layout == OURS:
        mapped.state = _unwrapped(stored.state)
    elif mapped.timm is not None and len(mapped.timm.network) < len(mapped.state):
        mapped.state = dict(stored.state)  # a detector: all parts keep their places
    return content, stored, mapped


def _unwrapped(state: State) -> State:
    """Without what stands before all names (``network.`` of a training of classifiers); the heads of a
    detector keep their place beside its backbone."""
    prefix = next((k[: k.index("trunk.")] for k in state if "trunk." in k), "")
    shared = all(k.startswith(prefix) for k in state)
    return {k[len(prefix) :]: v for k, v in state.items()} if shared else state


def _report(source: str | Path, stored: Stored, mapped: Mapped, num_heads: int) -> ConversionReport:
    contents = str(stored)
    if mapped.detector is not None:
        contents += f"\n{'':11} {detector_sizes(mapped.detector, num_heads)}"
    if mapped.network == "itpn":
        try:
            contents += f"\n{'':11} {architecture(to_native(stored.state).state)}"
        except CheckpointError as error:
            contents += f"\n{'':11} {error}"
    return ConversionReport(str(source), mapped.layout, contents)


def _beside(content: dict[str, Any], stored: Stored) -> list[str]:
    """What a file has beside the weights; a trainer may hold more than their average."""
    kept = {"pretraining", *stored.under[:1]} - {"trainer"}
    return [f"({key})" for key, value in content.items() if key not in kept and not isinstance(value, Tensor)]


def _check_target(source: Path, target: Path, layout: str, wrapper: str, overwrite: bool) -> None:
    if layout not in LAYOUTS:
        raise CheckpointError(f"layout {layout!r}: choose {' or '.join(LAYOUTS)}")
    if target.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{target}: the extension determines the format; choose one of {', '.join(SUFFIXES)}"
        )
    if wrapper not in ("", *WRAPPERS):
        raise CheckpointError(f"wrapper {wrapper!r}: choose {', '.join(WRAPPERS)}, or none")
    if not target.parent.is_dir():
        raise CheckpointError(f"{target}: the folder {target.parent} does not exist")
    if target.exists() and (source.resolve() == target.resolve() or not overwrite):
        same = source.resolve() == target.resolve()
        remedy = "choose another name" if same else "choose another name, or overwrite it (--force)"
        raise CheckpointError(f"{target}: {'is the source' if same else 'exists'}; {remedy}")


def _without(state: State, drop: Sequence[str]) -> tuple[State, list[str]]:
    for start in drop:
        if not any(k.startswith(start) for k in state):
            raise CheckpointError(
                f"drop {start!r}: no name begins like this; the names are {summary(list(state), 2)}"
            )
    dropped = [k for k in state if k.startswith(tuple(drop))] if drop else []
    return {k: v for k, v in state.items() if k not in dropped}, dropped


def _in_layout(state: State, mapped: Mapped, layout: LayoutName, num_heads: int) -> State:
    if layout == OURS:
        return state
    if found := mapped.detector:
        heads = {k: v for k, v in state.items() if k in found.state}
        order = found.feature_order or "low2high"
        back = from_native_detector(heads, found.layout, num_heads, order, found.prefix)
        return {**back, **{k: v for k, v in state.items() if k not in heads}}
    if mapped.network == "timm":
        raise CheckpointError(
            f"a {mapped.layout} is not an iTPN and has no such layout: keep the layout {OURS} (timm's names)"
        )
    return from_native(state)


def _write(state: State, path: Path, wrapper: str, origin: dict[str, Any] | None) -> None:
    # tied tensors are written twice: a file of named tensors holds no ties
    state = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in state.items()}
    beside = {} if origin is None else {"pretraining": origin}
    if path.suffix == ".safetensors":
        save_safetensors(state, path, beside)
    else:
        save_torch({**({wrapper: state} if wrapper else state), **beside}, path)


def _verify(path: Path, written: State, expected: State, target: Path, network: str) -> None:
    """CheckpointError unless the file gives back ``expected`` (in our names; a network of timm has no
    others), bit for bit."""
    again, wanted = find_state(load_state_file(path)).state, written
    if network == "itpn":
        try:
            again, wanted = to_native(again).state, to_native(expected).state
        except CheckpointError as error:
            raise CheckpointError(
                f"{target}: not written, since it could not be read back ({error}): keep the layout {OURS}"
            ) from error
    same = again.keys() == wanted.keys() and all(_equal(again[k], wanted[k]) for k in wanted)
    if not same:
        wrong = sorted(again.keys() ^ wanted.keys()) or [k for k in wanted if not _equal(again[k], wanted[k])]
        raise CheckpointError(
            f"{target}: not written, since reading it back would change {summary(wrong, 3)}: keep the "
            f"layout {OURS}"
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, so that a NaN equals itself."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.contiguous().flatten().view(torch.uint8), b.contiguous().flatten().view(torch.uint8))
