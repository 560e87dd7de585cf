"""A checkpoint of any known layout into a trunk, backbone, classifier, detector, or a network of timm."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..backbone.adapt import Adapted, adapt
from ..backbone.timm_names import HEAD, canonical, find_networks, plain_name
from ..errors import CheckpointError
from .addresses import local_path
from .architecture import architecture
from .by_name import has_detectron2_names, load_by_name
from .detector_models import find_detector, load_detector
from .detectors import detector_layout
from .finite import check_finite
from .key_maps import OURS, Mapped, of_timm, to_native
from .report import LoadReport
from .state import Stored, find_state
from .state_file import load_state_file
from .timm_trunks import SIX_HEADS, adapt_timm, lacking, match_timm, own_names, surplus

logger = logging.getLogger(__name__)


@dataclass
class _Target:
    """Where the tensors go: the module, what it has, and how names and shapes of a file become its own."""

    module: nn.Module
    own: dict[str, Tensor]
    rename: Callable[[str], str]
    adapt: Callable[[str, Tensor, Tensor], Adapted | None]
    root: str
    network: str


def load_pretrained(
    model: nn.Module, source: str | Path | dict[str, Any], prefer_average: bool = False
) -> LoadReport:
    """Load what fits, adapt tables and input bands, report the rest.

    Position and relative position tables follow the model's grid, the patch embedding its number of input
    bands; each such change is a row of the report. Tensors take the model's types.

    Args:
        model: trunk, ``ITPNBackbone``, classifier, or a detector that holds a backbone; for FastMIM's
            networks, and whatever is of timm, any model that holds such a network; for a published DINO or
            Mask DINO one of ours, see :mod:`.detector_models`.
        source: a file of any layout that :func:`to_native` knows, or its contents.

    Raises:
        CheckpointError: the file can't be read, holds a trunk of other sizes or of another kind, nothing of
            the trunk fits, or weights are not finite; the model is then untouched.
    """
    name = "" if isinstance(source, dict) else str(source)
    content = source if isinstance(source, dict) else load_state_file(local_path(source))
    return load_contents(model, content, name, prefer_average)


def load_contents(
    model: nn.Module,
    content: dict[str, Any],
    name: str = "",
    prefer_average: bool = False,
    heads: Callable[[dict[str, Tensor], Mapped], None] | None = None,
) -> LoadReport:
    """:func:`load_pretrained` of a file that has been read; ``name`` is for its report and errors.

    Args:
        heads: moves what it knows of ``ignored``, given the file's own names, into the mapped ``state``, in
            the names of ``model``.

    Raises:
        CheckpointError: see :func:`load_pretrained`; ``name`` begins the message.
    """
    try:
        stored = find_state(content, prefer_average)
        if detector_layout(stored.state) is not None and find_detector(model) is not None:
            return load_detector(model, stored, name)
        try:
            mapped = _mapped(stored.state, model)
        except CheckpointError:
            if not has_detectron2_names(stored.state):
                raise
            return load_by_name(model, stored, name)
        if heads is not None:
            heads(stored.state, mapped)
        target = _target(model, mapped)
        report, chosen = _choose(target, mapped, stored, name, isinstance(content.get("pretraining"), dict))
        _check(target, mapped, report)
        check_finite(chosen, {target.rename(key): value for key, value in mapped.state.items()})
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}" if name else str(error)) from error
    if isinstance(content.get("pretraining"), dict):
        _warn_of_normalisation(model, content["pretraining"], name)
    target.module.load_state_dict(chosen, strict=False)
    logger.info("Checkpoint %s", report)
    return report


def _mapped(state: dict[str, Tensor], model: nn.Module) -> Mapped:
    """:func:`to_native`, or what the names of the model's own network of timm make of the file."""
    foreign = _position_of(model.state_dict()) is None and any(True for _ in find_networks(model))
    try:
        mapped = to_native(state)
        # HRNet has a stage3 as well
        if not (foreign and mapped.layout == OURS and not any(k.endswith("pos_embed") for k in state)):
            return mapped
    except CheckpointError:
        if not foreign:
            raise
        file = match_timm(state, model)
        if file is None:
            raise
        return of_timm(file)
    file = match_timm(state, model)
    return mapped if file is None else of_timm(file)


def _position_of(own: dict[str, Tensor]) -> str | None:
    """The name of our trunk's position table; Hiera has one of rows and columns as well."""
    for name, value in own.items():
        if name.endswith("pos_embed") and value.ndim == 4:
            patches = own.get(name.removesuffix("pos_embed") + "patch_embed.proj.weight")
            if patches is not None and patches.ndim == 2:
                return name
    return None


def _target(model: nn.Module, mapped: Mapped) -> _Target:
    """What ``model`` offers to a file of that network.

    Raises:
        CheckpointError: no such network.
    """
    own = model.state_dict()
    position = _position_of(own)
    if mapped.network == "timm":
        if not any(True for _ in find_networks(model)):
            raise CheckpointError(
                f"it holds a {mapped.layout}, but the model has no such timm network: build one, such as "
                f"timm.create_model('vit_base_patch16_224') or 'swin_base_patch4_window7_224', or put "
                f"itpn_d2.backbone.TimmBackbone into the detector"
            )
        root, names = own_names(model)

        def rename(key: str) -> str:
            return names.get(canonical(key), key)

        def fit(key: str, value: Tensor, like: Tensor) -> Adapted | None:
            return adapt_timm(model, key, value, like)

        return _Target(model, own, rename, fit, root, "timm")
    if position is None:
        raise CheckpointError(
            "the model has no trunk of this project (no pos_embed of rows and columns), but the file "
            f"contains one (layout {mapped.layout}): build it with itpn_d2.create_model"
        )
    root = position.removesuffix("pos_embed")
    return _Target(model, own, _own_names(own, root), adapt, root, "itpn")


def _own_names(own: dict[str, Tensor], trunk: str) -> Callable[[str], str]:
    """Our full names (``trunk.x``) to the names inside a model that may be a bare trunk or hold the backbone
    deeper."""
    if not trunk.endswith("trunk."):
        return lambda key: trunk + key.removeprefix("trunk.") if key.startswith("trunk.") else key
    root = trunk.removesuffix("trunk.")

    def rename(key: str) -> str:
        return root + key if root + key in own or key.startswith(("trunk.", "pyramid.")) else key

    return rename


def _choose(
    target: _Target, mapped: Mapped, stored: Stored, name: str, has_heads: bool
) -> tuple[LoadReport, dict[str, Tensor]]:
    """What becomes of every tensor, and those to load. ``has_heads``: one of our pre-training files."""
    report = LoadReport(name, mapped.layout, ignored=list(mapped.ignored))
    report.contents = str(stored)
    chosen: dict[str, Tensor] = {}
    casts: dict[str, int] = {}
    for key, value in mapped.state.items():
        own_name = target.rename(key)
        like = target.own.get(own_name)
        if like is None:
            heads = has_heads and not key.startswith(("trunk.", "pyramid."))
            (report.ignored if heads else report.unexpected).append(key)
            continue
        numbers = value.is_floating_point() == like.is_floating_point()
        if numbers and value.dtype != like.dtype:
            casts[str(value.dtype)] = casts.get(str(value.dtype), 0) + 1
            value = value.to(like.dtype)
        if numbers and value.shape == like.shape:
            report.loaded.append(own_name)
            chosen[own_name] = value
        elif numbers and (adapted := target.adapt(own_name, value, like)):
            report.adapted.append(f"{own_name}: {adapted[1]}")
            chosen[own_name] = adapted[0]
        else:
            wrong = "" if value.is_floating_point() else f" of {value.dtype}".replace("torch.", "")
            report.mismatched.append(
                f"{own_name}: file {tuple(value.shape)}{wrong}, model {tuple(like.shape)}"
            )
    for dtype, count in casts.items():
        kind = next(v.dtype for v in target.own.values() if v.is_floating_point())
        report.adapted.append(f"{count} tensors: {dtype} -> {kind}".replace("torch.", ""))
    report.missing = [k for k in target.own if k not in chosen]
    return report, chosen


def _check(target: _Target, mapped: Mapped, report: LoadReport) -> None:
    """Complete the report with what the sizes say.

    Raises:
        CheckpointError: the trunk of the file is not the model's.
    """
    if target.network == "timm":
        _check_timm(target, mapped, report)
        return
    found, model = architecture(mapped.state), architecture(_as_ours(target))
    report.contents += f"\n{'':11} {found}"
    if remedies := found.unlike(model):
        raise CheckpointError(
            "no weight of the trunk can be loaded as it was trained, since the model has another size or "
            f"kind: build it with {', '.join(remedies)}\n{report}"
        )
    if odd := [row for row in report.mismatched if row.startswith(target.root)]:
        raise CheckpointError(f"the trunk has shapes of another model ({odd[0]})\n{report}")
    if not any(k.startswith(target.root) for k in report.loaded):
        raise CheckpointError(
            f"no weight of the trunk can be loaded, since the model has another size or kind\n{report}"
        )
    if lost := _lost(report.missing, target.root, found.depths[2]):
        raise CheckpointError(
            f"{lost[0]} is missing ({len(lost)} of the trunk): fetch the file again\n{report}"
        )
    if found.depths != model.depths:
        report.hints.append(f"the file ends after {found.depths[2]} of {model.depths[2]} blocks of stage 3")
    if remedies := found.pyramid_unlike(model):
        report.hints.append(f"to use the file's whole pyramid, build the model with {', '.join(remedies)}")
    if found.rel_pos != "none" and model.rel_pos == "none":
        report.hints.append(f"relative positions are dropped: rel_pos={found.rel_pos!r} keeps them")


def _check_timm(target: _Target, mapped: Mapped, report: LoadReport) -> None:
    """:func:`_check` for a network of timm."""
    file, (_, network) = mapped.timm, next(find_networks(target.module))
    assert file is not None
    inside = [k.removeprefix(target.root) for k in report.missing if k.startswith(target.root)]
    parts = {canonical(k) for k in network.state_dict()}
    missing = [plain_name(k) for k in inside if canonical(k) in parts]
    lost = lacking(missing, file.network, file.partial)
    left = surplus([k for k in report.unexpected if k in file.network], network)
    wrong = [
        row
        for row in report.mismatched
        if row.startswith(target.root)
        and not HEAD.match(plain_name(row.removeprefix(target.root)))
        and canonical(row.split(":")[0].removeprefix(target.root)) in parts
    ]
    if lost or left or wrong:
        raise CheckpointError(
            f"the network is of another size or kind: build it as deep and wide as the file's\n{report}"
        )
    report.missing = [k for k in report.missing if not k.endswith("num_batches_tracked")]
    for name in [k for k in report.unexpected if k.endswith("num_batches_tracked")]:
        report.unexpected.remove(name)
        report.ignored.append(name)
    blocks = [k for k in missing if not HEAD.match(k) and k not in lost and "blocks." in k]
    if file.partial and blocks:
        report.hints.append(f"the file leaves out the last blocks ({blocks[0].rpartition('.')[0]}, ...)")
    if mapped.layout.startswith("ViT") and any(k.startswith("decoder_") for k in mapped.ignored):
        report.hints.append(SIX_HEADS)


def _lost(missing: list[str], root: str, depth: int) -> list[str]:
    """Missing tensors of the trunk that no whole file is without: another pooling has no last norm, relative
    positions may start anew, the third stage may end after ``depth`` blocks, and acceleration is ours."""
    may_be = re.compile(r"norm\.|migration\.|gathering\.|stage3\.\d+\.attn\.rel_pos\.")
    names = [k.removeprefix(root) for k in missing if k.startswith(root)]
    blocks = [re.match(r"stage3\.(\d+)\.", n) for n in names]
    return [
        name
        for name, block in zip(names, blocks, strict=True)
        if not may_be.match(name) and not (block and int(block[1]) >= depth)
    ]


def _as_ours(target: _Target) -> dict[str, Tensor]:
    """The model's tensors under our full names."""
    root = target.root.removesuffix("trunk.") if target.root.endswith("trunk.") else None
    if root is None:
        return {f"trunk.{k.removeprefix(target.root)}": v for k, v in target.own.items()}
    return {k.removeprefix(root): v for k, v in target.own.items() if k.startswith(root)}


def _warn_of_normalisation(model: nn.Module, origin: dict, name: str) -> None:
    """Say so where the model normalises its images differently from the pre-training the file comes from."""
    for key in ("pixel_mean", "pixel_std"):
        own = next((b for n, b in model.named_buffers() if n.rsplit(".", 1)[-1] == key), None)
        theirs = origin.get(key)
        if own is None or theirs is None:
            continue
        values = own.flatten().tolist()
        if getattr(model, "input_format", "RGB") == "BGR":
            values.reverse()
        if len(values) != len(theirs) or any(abs(a - b) > 0.01 for a, b in zip(values, theirs, strict=True)):
            logger.warning(
                "%s was pre-trained with %s %s of RGB, but the model has %s: set model.%s to the former",
                name or "the state dict",
                key,
                [round(v, 3) for v in theirs],
                [round(v, 3) for v in values],
                key,
            )
