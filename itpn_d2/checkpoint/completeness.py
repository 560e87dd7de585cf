"""Checks that loading has filled all weights that predictions need."""

from torch import nn

from ..backbone import TokenGathering, TokenMigration
from ..errors import CheckpointError
from ..meta_arch.dino import DINO
from .report import LoadReport, summary


def require_all(report: LoadReport, model: nn.Module) -> None:
    """Refuse a model that would predict with untrained weights.

    Raises:
        CheckpointError: parameters that predictions need were not in the file; they are listed by group.
    """
    not_needed = tuple(_not_needed(model))
    lacking = [name for name in report.missing if not name.startswith(not_needed)]
    if not lacking:
        return
    differing = [row for row in report.mismatched if row.split(":")[0] in lacking]
    which = f"{differing[0]}; " if differing else ""
    raise CheckpointError(
        f"{report.source}: the weights of another model, or incomplete: {len(lacking)} tensors of this "
        f"model are missing ({which}{summary(lacking, 3)}) and would keep their initial values. Give the "
        "config with which the weights were trained (a run writes config.yaml beside them), with the "
        f"same number of classes\n{report}"
    )


def _not_needed(model: nn.Module) -> list[str]:
    """Beginnings of names: what starts as if it were not there, and what only training uses."""
    found = []
    for name, module in model.named_modules():
        start = f"{name}." if name else ""
        if isinstance(module, TokenMigration | TokenGathering):
            found.append(start)
        elif isinstance(module, DINO):
            found.append(f"{start}denoising.")
    return found
