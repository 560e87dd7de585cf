"""A checkpoint of any known layout into a trunk, backbone, classifier or detector."""

import logging
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from ..layers import resample_grid
from .errors import CheckpointError
from .key_maps import to_native
from .report import LoadReport
from .safe_load import load_state_file, unwrap

logger = logging.getLogger(__name__)
# tables over a grid, (1, h, w, C), that follow the model's
_TABLES = ("pos_embed", "rel_pos.table", "rel_pos.rows", "rel_pos.columns")


def load_pretrained(
    model: nn.Module, source: str | Path | dict[str, Tensor], prefer_average: bool = False
) -> LoadReport:
    """Load what fits, adapt position tables, report the rest.

    Args:
        model: trunk, ``ITPNBackbone``, classifier, or a detector that holds a backbone.
        source: a file, or a state dict.

    Raises:
        CheckpointError: the file can't be read, or nothing of the trunk fits; the model is then untouched.
    """
    name = "" if isinstance(source, dict) else str(source)
    content = source if isinstance(source, dict) else load_state_file(local_path(str(source)))
    try:
        mapped = to_native(unwrap(content, prefer_average))
    except CheckpointError as error:
        raise CheckpointError(f"{name}: {error}" if name else str(error)) from error
    own = model.state_dict()
    to_own = _own_names(own)
    report = LoadReport(name, mapped.layout, ignored=mapped.ignored)
    origin = content.get("pretraining")
    if isinstance(origin, dict):
        _warn_of_normalisation(model, origin, name)
    chosen: dict[str, Tensor] = {}
    for key, value in mapped.state.items():
        target = to_own(key)
        if target not in own:
            heads = isinstance(origin, dict) and not key.startswith(("trunk.", "pyramid."))
            (report.ignored if heads else report.unexpected).append(key)
        elif value.shape == own[target].shape:
            report.loaded.append(target)
            chosen[target] = value
        elif target.endswith(_TABLES) and value.shape[-1] == own[target].shape[-1]:
            grid = own[target].shape[1:3]
            report.resized.append(f"{target}: {tuple(value.shape[1:3])} -> {tuple(grid)}")
            chosen[target] = resample_grid(value, (grid[0], grid[1]))
        else:
            report.mismatched.append(f"{target}: file {tuple(value.shape)}, model {tuple(own[target].shape)}")
    report.missing = [k for k in own if k not in chosen]
    trunk = to_own("trunk.")
    if not any(k.startswith(trunk) for k in report.loaded):
        raise CheckpointError(
            f"{name or 'state dict'}: nothing of the trunk loads; the model is another size or kind\n{report}"
        )
    model.load_state_dict(chosen, strict=False)
    logger.info("Checkpoint %s", report)
    return report


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
                "%s was pre-trained with %s %s of RGB, the model has %s: set model.%s to the former",
                name or "the state dict",
                key,
                [round(v, 3) for v in theirs],
                [round(v, 3) for v in values],
                key,
            )


def _own_names(own: dict[str, Tensor]) -> Callable[[str], str]:
    """Our full names (``trunk.x``) to the names inside a model that may be a bare trunk or hold the backbone
    deeper."""
    position = next((k for k in own if k.endswith("pos_embed")), None)
    if position is None:
        raise CheckpointError("the model has no trunk of this project: no parameter is named pos_embed")
    prefix = position.removesuffix("pos_embed")
    if not prefix.endswith("trunk."):
        return lambda key: prefix + key.removeprefix("trunk.") if key.startswith("trunk.") else key
    root = prefix.removesuffix("trunk.")

    def rename(key: str) -> str:
        return root + key if root + key in own or key.startswith(("trunk.", "pyramid.")) else key

    return rename


def local_path(path: str) -> str:
    """The local file of a path that Detectron2's PathManager may have to fetch."""
    if "://" not in path:
        return path
    from detectron2.utils.file_io import PathManager

    return PathManager.get_local_path(path)
