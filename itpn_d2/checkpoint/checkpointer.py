"""The training engine's checkpoints: whole or absent, and safe to load."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from fvcore.common.checkpoint import Checkpointer as FvcoreCheckpointer
from torch import nn

from ..errors import CheckpointError, UseError
from ..files import write_text
from ..sharded import is_sharded, load_whole, whole
from .addresses import local_path
from .classes import Classes
from .completeness import require_all
from .finite import check_finite
from .loading import load_contents
from .report import LoadReport
from .resume import FINAL, TAG, check_trainer, instead_of, last_checkpoint, numbered_in
from .shard_files import SUFFIX, is_shards, load_shards
from .sharded import ShardWriter, remove_shards
from .state_file import load_state_file
from .write import atomic_save

logger = logging.getLogger(__name__)


class Checkpointer(FvcoreCheckpointer):
    """fvcore's checkpointer, as Detectron2's hooks use it, with atomic files and a loader that runs no code.

    A file that this class wrote restores the model exactly, and the ``checkpointables`` that are asked for;
    any other is loaded as by :func:`load_pretrained`, with a report in the log.

    Args:
        max_to_keep: how many ``model_<iteration>``, files and folders, the newest, stay in ``save_dir``; they
            are counted there, so that it holds over restarts. None: all.
        classes: the names of the classes, which every file gets and a complete load compares.
        sharded: of a sharded model, the checkpoints of iterations are folders of shards, which are written
            while the training goes on: :meth:`poll` and :meth:`wait` finish them.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        max_to_keep: int | None = None,
        classes: Classes | None = None,
        sharded: bool = False,
        **checkpointables: Any,
    ):
        super().__init__(model, save_dir, save_to_disk=comm.is_main_process(), **checkpointables)
        self.max_to_keep, self.classes = max_to_keep, classes or Classes()
        self._shards = ShardWriter() if sharded and is_sharded(model) else None

    def save(self, name: str, **kwargs: Any) -> None:
        """All processes call it; the main one writes, or all write their shards."""
        path = Path(self.save_dir) / f"{name}.pth"
        if self._shards is not None and self.save_dir and path.name != FINAL:
            self._save_shards(self._shards, path.with_suffix(SUFFIX), kwargs)
            return
        self.wait()
        if not self.save_dir or not (self.save_to_disk or is_sharded(self.model)):
            return
        content = whole(self._content(kwargs), self.save_to_disk)
        if not self.save_to_disk:
            return
        logger.info("Saving checkpoint to %s", path)
        atomic_save(content, path)
        self.tag_last_checkpoint(path.name)
        self._remove_old(path)

    def _save_shards(self, shards: ShardWriter, path: Path, beside: dict[str, Any]) -> None:
        if path != shards.path:
            self.wait()
        logger.info("Saving checkpoint to %s", path)
        shards.begin(path, self._content(beside))

    def poll(self) -> None:
        """Finish the checkpoint that is being written, if all is written; does not wait."""
        if self._shards is not None and self._shards.ready:
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written, and make it the one to resume from; at once where
        there is none."""
        if self._shards is None or not self._shards.busy:
            return
        self._shards.finish()
        if self.save_to_disk and self._shards.path is not None:
            self.tag_last_checkpoint(self._shards.path.name)
            self._remove_old(self._shards.path)

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Write the weights alone, without making them the checkpoint to resume from; of a sharded model, all
        processes call it."""
        if self.save_dir and (self.save_to_disk or is_sharded(self.model)):
            content = whole(self._weights(kwargs), self.save_to_disk)
            if self.save_to_disk:
                atomic_save(content, Path(self.save_dir) / f"{name}.pth")

    def _content(self, beside: dict[str, Any]) -> dict[str, Any]:
        parts = {key: item.state_dict() for key, item in self.checkpointables.items()}
        return {**self._weights(beside), **parts}

    def _weights(self, beside: dict[str, Any]) -> dict[str, Any]:
        return {"model": self.model.state_dict(), **self.classes.entry(), **beside}

    def complete(self, iteration: int) -> None:
        """Write ``model_final`` of a run that had ended before it could, and remove what it could not remove
        any more."""
        final = Path(self.save_dir) / FINAL
        if not comm.all_gather(final.is_file())[0]:
            self.save(final.stem, iteration=iteration)
        elif self.save_to_disk:
            self._remove_old(final)

    def _remove_old(self, newest: Path) -> None:
        if self.max_to_keep is None:
            return
        for path in numbered_in(newest.parent)[: -self.max_to_keep]:
            if path != newest:
                remove_shards(path) if is_shards(path) else path.unlink(missing_ok=True)

    def load_foreign(self, content: dict[str, Any], path: str) -> LoadReport:
        """Load a file that is not a checkpoint of exactly this model."""
        return load_contents(self.model, content, path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint to resume from, by its name in ``save_dir``."""
        write_text(Path(self.save_dir) / TAG, last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to resume from; see :func:`.last_checkpoint`."""
        return last_checkpoint(self.save_dir) is not None

    def get_checkpoint_file(self) -> str:
        """The file to resume from, '' where there is none; see :func:`.last_checkpoint`."""
        return str(last_checkpoint(self.save_dir) or "")

    def load(
        self, path: str, checkpointables: list[str] | None = None, complete: bool = False
    ) -> dict[str, Any]:
        """Load ``path`` (nothing when empty) and, of what it holds, ``checkpointables`` (None: all).

        Args:
            complete: for evaluation and prediction: refuse a file that leaves parameters of the model as they
                are, except for those that only training uses and those of token migration and gathering,
                which initially have no effect; also refuse one that was trained for other classes.

        Returns:
            The other contents of the file.

        Raises:
            CheckpointError: the file can't be read, or nothing of the trunk fits, or weights are not finite,
                or it is not complete; or its ``checkpointables`` are not such.
        """
        if not path:
            return {}
        wanted = self.checkpointables if checkpointables is None else checkpointables
        try:
            content = self._read(local_path(path), bool(wanted))
        except CheckpointError as error:
            raise CheckpointError(f"{error}{instead_of(path) if wanted else ''}") from error
        if complete:
            self.classes.compare(content.get(Classes.KEY), str(path))
        state = content.get("model")
        own = self.model.state_dict()
        exact = isinstance(state, dict) and state.keys() == own.keys()
        if state is not None and exact and all(_fits(state[k], own[k]) for k in own):
            self._load_exactly(state, own, path)
        elif wanted:
            raise CheckpointError(
                f"{path}: not a checkpoint of this model, so there is nothing to resume from; start from its "
                f"weights (train.init_checkpoint={path}, another train.output_dir, without --resume)"
            )
        else:
            report = self.load_foreign(content, str(path))
            if complete:
                require_all(report, self.model)
        for key in wanted:
            self._load_part(key, content, path)
        return {k: v for k, v in content.items() if k not in {"model", *self.checkpointables}}

    def _read(self, path: str, resume: bool) -> dict[str, Any]:
        """The content of a file; to resume from a folder of shards, this process's where it has a shard."""
        if not (resume and is_shards(path)):
            return load_state_file(path)
        parts = {k: item.like() for k, item in self.checkpointables.items() if hasattr(item, "like")}
        return load_shards(path, {"model": self.model.state_dict(), **parts})

    def _load_exactly(self, state: dict[str, Any], own: dict[str, torch.Tensor], path: str) -> None:
        try:
            check_finite({name: value.to(own[name].dtype) for name, value in state.items()}, state)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error
        load_whole(self.model, state)
        logger.info("Loaded %s", path)

    def _load_part(self, key: str, content: dict[str, Any], path: str) -> None:
        """One of the checkpointables from the file."""
        item = self.checkpointables[key]
        remedy = (
            f"resume from an earlier checkpoint (write its name into {TAG}), or start from these weights "
            f"(train.init_checkpoint={path}, another train.output_dir, without --resume)"
        )
        if key not in content:
            if getattr(item, "optional", False):
                return
            raise CheckpointError(f"{path}: contains no {key!r} to resume from: {remedy}")
        try:
            check_trainer(key, content[key])
            item.load_state_dict(content[key])
        except UseError:
            raise
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            raise CheckpointError(
                f"{path}: its {key!r} can't be resumed from ({reason}): {remedy}"
            ) from error


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
