"""Which file of a run's folder to resume from, and whether its state can be that of a trainer."""

import logging
import re
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .shard_files import is_shards, load_rest
from .state_file import load_state_file

logger = logging.getLogger(__name__)
TAG = "last_checkpoint"  # the file that names the one to resume from
FINAL = "model_final.pth"
NUMBERED = re.compile(r"model_\d{7,}\.(pth|dcp)")  # files, and folders of shards
_LONGEST = 255  # bytes of a file name


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint that ``last_checkpoint`` in the folder of a run names; None where the run has saved
    none.

    A run that was killed between its first checkpoint and this entry, or whose ``model_final.pth`` was
    removed, is resumed from its newest ``model_<iteration>.pth``, with a warning.

    Raises:
        CheckpointError: the entry names no file of the folder, or is missing beside checkpoints; the message
            says how to repair it.
    """
    folder = Path(folder)
    tag = folder / TAG
    numbered = numbered_in(folder)
    if not tag.is_file():
        models = sorted({*folder.glob("model_*.pth"), *numbered})
        if tag.exists():
            raise CheckpointError(f"{tag}: not a file; {_remedy(folder, numbered)}")
        if not models:
            return None
        if models == numbered and len(numbered) == 1:
            logger.warning("%s is missing; resuming from the only checkpoint, %s", tag, numbered[0].name)
            return numbered[0]
        raise CheckpointError(
            f"{tag}: missing, although there are {', '.join(p.name for p in models[-3:])}: --resume can't "
            f"tell which one to continue from; {_remedy(folder, numbered)}"
        )
    name = _name_in(tag, numbered)
    path = folder / name
    if path.is_file() or is_shards(path):
        return path
    if name == FINAL and numbered:
        logger.warning("%s is missing; resuming from %s, the checkpoint before it", path, numbered[-1].name)
        return numbered[-1]
    raise CheckpointError(f"{tag}: names {name}, which is not there; {_remedy(folder, numbered)}")


def stored_iteration(path: Path) -> int:
    """The iteration after which a checkpoint was written.

    Raises:
        CheckpointError: it does not say, or can't be read.
    """
    done = (load_rest(path) if is_shards(path) else load_state_file(path)).get("iteration")
    if type(done) is not int:
        raise CheckpointError(f"{path}: it does not contain the iteration at which it was saved")
    return done


def numbered_in(folder: Path) -> list[Path]:
    """The checkpoints of iterations in a folder, whole files or folders of shards, oldest first."""
    return sorted(p for p in folder.glob("model_*") if NUMBERED.fullmatch(p.name))


def _name_in(tag: Path, numbered: list[Path]) -> str:
    """The name in a tag; CheckpointError unless it is that of a file in its folder."""
    try:
        name = tag.read_bytes()[: 2 * _LONGEST].decode().strip()
    except UnicodeDecodeError:
        name = "\0"
    except OSError as error:
        raise CheckpointError(f"{tag}: can't be read ({error.strerror})") from error
    if not name:
        raise CheckpointError(f"{tag}: the file is empty; {_remedy(tag.parent, numbered)}")
    if not name.isprintable() or len(name.encode()) > _LONGEST:
        raise CheckpointError(f"{tag}: holds no file name; {_remedy(tag.parent, numbered)}")
    if name != Path(name).name or name in (".", ".."):
        raise CheckpointError(
            f"{tag}: names {name}, which is not a file of this folder; {_remedy(tag.parent, numbered)}"
        )
    return name


def _remedy(folder: Path, numbered: list[Path]) -> str:
    anew = "start anew with train.overwrite=True, without --resume"
    if not numbered:
        return f"write the name of a checkpoint of this folder into it, or {anew}"
    return f"write {numbered[-1].name} into {folder / TAG} to go on from there, or {anew}"


def instead_of(path: str | Path) -> str:
    """The remedy if the file to resume from is damaged: a clause with the newest other checkpoint of its
    folder, '' if there is none."""
    path = Path(path)
    others = [p for p in numbered_in(path.parent) if p != path]
    if not others:
        return ""
    return f"; to go on from an earlier one, write {others[-1].name} into {path.parent / TAG}"


def check_trainer(key: str, state: Any) -> None:
    """Raises:
    ValueError: the value under ``key`` is not a state, or has no valid number of iterations.
    """
    if not isinstance(state, dict):
        raise ValueError(f"a {type(state).__name__} instead of a dict")
    iteration = state.get("iteration", 0)
    if type(iteration) is not int or iteration < 0:
        raise ValueError(f"iteration {iteration!r:.50} is no count")
