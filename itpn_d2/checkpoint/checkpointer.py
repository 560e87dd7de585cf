"""The training engine's checkpoints: whole or absent, and safe to load."""

import collections
import logging
import re
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer as FvcoreCheckpointer
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ..backbone import TokenGathering, TokenMigration
from ..errors import CheckpointError
from ..files import write_text, written_whole
from .loading import load_contents, local_path
from .report import LoadReport, summary
from .safe_load import load_state_file

logger = logging.getLogger(__name__)
_NUMBERED = re.compile(r"model_\d{7,}\.pth")


def atomic_save(content: Any, path: str | Path) -> None:
    """``torch.save`` so that ``path`` is either absent, old, or whole, also after a power cut."""
    with written_whole(path) as partial:
        torch.save(plain(content), partial)


def plain(content: Any) -> Any:
    """The content with configs in it as the dicts and lists that they stand for. An optimizer, for one, keeps
    the ``betas`` of its config, and a file with a config node in it is refused when it is read."""
    if isinstance(content, DictConfig | ListConfig):
        return OmegaConf.to_container(content, resolve=True)
    if type(content) in (dict, collections.OrderedDict):
        return type(content)((key, plain(item)) for key, item in content.items())
    if type(content) in (list, tuple):
        return type(content)(map(plain, content))
    return content


class Checkpointer(FvcoreCheckpointer):
    """fvcore's checkpointer, as Detectron2's hooks use it, with atomic files and a loader that runs no code.

    A file that this class wrote restores the model exactly, and the ``checkpointables`` that are asked for;
    any other is loaded as by :func:`load_pretrained`, with a report in the log.

    Args:
        max_to_keep: how many ``model_<iteration>.pth``, the newest, stay in ``save_dir``; they are counted in
            the folder, so that it holds over restarts. None: all.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", max_to_keep: int | None = None, **checkpointables: Any
    ):
        super().__init__(model, save_dir, save_to_disk=comm.is_main_process(), **checkpointables)
        self.max_to_keep = max_to_keep

    def save(self, name: str, **kwargs: Any) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        content = {"model": self.model.state_dict(), **kwargs}
        content.update({key: item.state_dict() for key, item in self.checkpointables.items()})
        path = Path(self.save_dir) / f"{name}.pth"
        logger.info("Saving checkpoint to %s", path)
        atomic_save(content, path)
        self.tag_last_checkpoint(path.name)
        self._remove_old(path)

    def complete(self, iteration: int) -> None:
        """Write ``model_final`` of a run that had ended before it could; nothing where it is there."""
        if not (Path(self.save_dir) / "model_final.pth").is_file():
            self.save("model_final", iteration=iteration)

    def _remove_old(self, newest: Path) -> None:
        if self.max_to_keep is None:
            return
        numbered = sorted(p for p in newest.parent.iterdir() if _NUMBERED.fullmatch(p.name))
        for path in numbered[: -self.max_to_keep]:
            if path != newest:
                path.unlink(missing_ok=True)

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Write the weights alone, without making them the checkpoint to resume from."""
        if self.save_dir and self.save_to_disk:
            atomic_save({"model": self.model.state_dict(), **kwargs}, Path(self.save_dir) / f"{name}.pth")

    def load_foreign(self, content: dict[str, Any], path: str) -> LoadReport:
        """Load what is not a checkpoint of this very model."""
        return load_contents(self.model, content, path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(Path(self.save_dir) / "last_checkpoint", last_filename_basename)

    def load(
        self, path: str, checkpointables: list[str] | None = None, complete: bool = False
    ) -> dict[str, Any]:
        """Load ``path`` (nothing when empty) and, of what it holds, ``checkpointables`` (None: all).

        Args:
            complete: refuse a file that leaves parameters of the model as they are, but for those of token
                migration and gathering, which start as if they were not there.

        Raises:
            CheckpointError: the file can't be read, or nothing of the trunk fits, or it is not complete.
        """
        if not path:
            return {}
        content = load_state_file(local_path(path))
        wanted = self.checkpointables if checkpointables is None else checkpointables
        state = content.get("model")
        own = self.model.state_dict()
        exact = isinstance(state, dict) and state.keys() == own.keys()
        if state is not None and exact and all(_fits(state[k], own[k]) for k in own):
            self.model.load_state_dict(state)
            logger.info("Loaded %s", path)
        elif wanted:
            raise CheckpointError(
                f"{path}: not a checkpoint of this model, so there is nothing to resume from"
            )
        else:
            report = self.load_foreign(content, path)
            if complete:
                _require_all(report, self.model)
        for key in wanted:
            if key not in content:
                if getattr(self.checkpointables[key], "optional", False):
                    continue
                raise CheckpointError(f"{path}: holds no {key!r} to resume from")
            self.checkpointables[key].load_state_dict(content[key])
        return {k: v for k, v in content.items() if k not in {"model", *self.checkpointables}}


def _require_all(report: LoadReport, model: nn.Module) -> None:
    """CheckpointError unless the model has got all it needs from its file."""
    extras = {f"{n}." for n, m in model.named_modules() if isinstance(m, TokenMigration | TokenGathering)}
    lacking = [name for name in report.missing if not name.startswith(tuple(extras))]
    if not lacking:
        return
    differing = [row for row in report.mismatched if row.split(":")[0] in lacking]
    which = f"{differing[0]}; " if differing else ""
    raise CheckpointError(
        f"{report.source}: the weights of another model: {len(lacking)} tensors of this one are not in it "
        f"({which}{summary(lacking, 3)}). Give the config that they were trained with (a run writes "
        f"config.yaml beside them), with the same number of classes\n{report}"
    )


def _fits(value: Any, like: torch.Tensor) -> bool:
    """Whether ``value`` can be copied into ``like``: dense numbers of its shape; anything else is left to
    the loader that says what is wrong with it."""
    return (
        isinstance(value, torch.Tensor)
        and value.shape == like.shape
        and value.layout == torch.strided
        and value.device.type != "meta"
        and not (value.is_quantized or value.is_complex())
        and value.is_floating_point() == like.is_floating_point()
    )
