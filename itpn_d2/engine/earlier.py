"""How a fresh start treats an earlier run in its output folder."""

import logging
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils import comm

from ..checkpoint.resume import FINAL, TAG, numbered_in
from ..errors import ConfigError
from ..files import writing

logger = logging.getLogger(__name__)
# What tells of one run alone. Pictures and pages are drawn anew; the log goes on.
_OF_A_RUN = ("config.yaml", "metrics.json", "results.json", "error.txt", "broken_images.txt")
_BEST = "model_best.pth"


def make_room(folder: Path, overwrite: bool, start: str | None = None) -> None:
    """Make sure that a fresh start in ``folder`` loses no finished work; all processes of a run call it.

    Checkpoints that are there are refused, or with ``overwrite`` moved to the folder ``earlier_<n>`` beside
    the metrics and the config of their run: nothing is deleted, and a restart can't mistake them for its own.

    Args:
        start: ``train.init_checkpoint``, which must not be moved.

    Raises:
        ConfigError: there are checkpoints. OutputError: they can't be moved.
    """
    refusal = _refusal(folder, overwrite, start) if comm.is_main_process() else None
    refusal = comm.all_gather(refusal)[0]  # the folders of other machines may be others
    if refusal is not None:
        raise ConfigError(refusal)
    if comm.is_main_process():
        _move(folder)
    comm.synchronize()


def _refusal(folder: Path, overwrite: bool, start: str | None) -> str | None:
    last = _last(folder)
    if last is None:
        return None
    if not overwrite:
        return (
            f"train.output_dir={folder}: the folder holds an earlier run, whose last checkpoint is {last}. "
            f"Continue it with --resume, start anew with train.overwrite=True (which moves its files "
            f"aside), or choose another train.output_dir"
        )
    if start and Path(start).resolve() in {path.resolve() for path in _checkpoints(folder)}:
        return (
            f"train.init_checkpoint={start} would be moved by train.overwrite=True: choose another "
            f"train.output_dir, or copy the file to another folder"
        )
    return None


def _last(folder: Path) -> str | None:
    """The name of the last checkpoint as the folder states it, else of the newest numbered one."""
    if (folder / TAG).is_file():
        return (folder / TAG).read_bytes()[:200].decode(errors="replace").strip() or f"named in {TAG}"
    return max((p.name for p in numbered_in(folder)), default=None)


def _checkpoints(folder: Path) -> Iterator[Path]:
    yield from numbered_in(folder)
    yield from (folder / name for name in (_BEST, FINAL) if (folder / name).is_file())


def _move(folder: Path) -> None:
    if _last(folder) is None:
        return
    number = 1
    while (folder / f"earlier_{number}").exists():
        number += 1
    target = folder / f"earlier_{number}"
    with writing(target):
        target.mkdir()
        moved = [*_checkpoints(folder), *sorted(folder.glob("events.out.tfevents*"))]
        moved += [folder / name for name in _OF_A_RUN if (folder / name).is_file()]
        # last, so that a move that is interrupted is refused, or done to its end, by the next start
        moved += [folder / TAG] if (folder / TAG).is_file() else []
        for path in moved:
            path.replace(target / path.name)
    logger.warning(
        "train.overwrite=True: the files of the earlier run (%s) are now in %s; delete them if you do "
        "not need them",
        ", ".join(path.name for path in moved),
        target,
    )
