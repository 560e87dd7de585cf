"""Checkpoints in shards: each process writes its own, while the training goes on."""

import copy
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from detectron2.utils import comm
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor

from ..errors import OutputError
from ..files import commit, partial_name, writing
from ..sharded import whole
from .shard_files import OPTIMIZER, SUFFIX, Place, name_of, walked, write_contents
from .write import plain


class _Files(dcp.FileSystemWriter):
    """Torch's writer, which keeps in the main process what it has put where."""

    metadata: Metadata
    written: list[WriteResult]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        super().finish(metadata, results)
        self.metadata, self.written = metadata, [result for of_one in results for result in of_one]


class ShardWriter:
    """Writes one folder at a time, by all processes of a run together.

    The folder has a temporary name until every process has written its shards, so that a name that ends in
    ``.dcp`` stands for a whole checkpoint.

    Attributes:
        path: of the newest checkpoint, finished or not; the same in all processes.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._partial: Path | None = None
        self._rest: Any = None
        self._files: _Files | None = None
        self._under_way: Future | None = None
        self._group: Any = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is begun and not finished."""
        return self._under_way is not None

    @property
    def ready(self) -> bool:
        """Whether what is under way can be finished without waiting."""
        return self._under_way is not None and self._under_way.done()

    def begin(self, path: Path, content: dict[str, Any]) -> None:
        """Copy this process's shards to the CPU, and begin to write them. All processes call it; what is
        under way has to be finished, unless it is ``path`` itself: of a checkpoint of the same iteration only
        what is no tensor is taken anew."""
        tensors: dict[str, Tensor] = {}

        def taken(at: Place, value: Any) -> Any:
            if not isinstance(value, Tensor):
                return copy.deepcopy(value)
            if not value.ndim and OPTIMIZER in at:  # a count for each parameter, which steps change in place
                return whole(value).detach().cpu().clone()
            if isinstance(value, DTensor) or comm.is_main_process():  # what is no shard may differ
                tensors[name_of(at)] = value.detach().contiguous()  # so that the numbers lie in a row
            return None

        self._rest = walked(plain(content), taken)
        if path == self.path:
            if not self.busy and comm.is_main_process():
                self._write_contents(path)
            return
        assert not self.busy, "finish what is under way"
        self.path = path
        if self._group is None:
            if comm.is_main_process():
                _remove_unfinished(path.parent)
            self._group = dist.new_group(backend="gloo")  # its own: it is used beside those of the steps
        self._partial = comm.all_gather(partial_name(path))[0]
        self._files = _Files(self._partial)
        begun = dcp.async_save(tensors, storage_writer=self._files, process_group=self._group)
        assert isinstance(begun, Future)  # of a writer that copies by itself
        self._under_way = begun

    def finish(self) -> None:
        """Wait until all processes have written; the main one gives the folder its name.

        Raises:
            OutputError: a process could not write.
        """
        if self._under_way is None or self.path is None or self._partial is None:
            return
        future, self._under_way = self._under_way, None
        path, self.path = self.path, None  # what has failed is begun anew
        try:
            future.result()
        except CheckpointException as error:
            if comm.is_main_process():
                shutil.rmtree(self._partial, ignore_errors=True)
            first = next(iter(error.failures.values()))[0]
            with writing(path):
                raise OutputError(f"{path}: can't be written ({first})") from first
        if comm.is_main_process():
            self._write_contents(self._partial)
            if path.exists():  # of a run that has gone on from an earlier one
                remove_shards(path)
            commit(self._partial, path)
        self.path = path

    def _write_contents(self, folder: Path) -> None:
        assert self._files is not None
        write_contents(folder, self._rest, self._files.metadata, self._files.written)


def _remove_unfinished(folder: Path) -> None:
    """What a run that was killed, on whatever machine, has left: a folder has one run at a time."""
    for path in folder.glob(f".model_*.partial{SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)


def remove_shards(folder: Path) -> None:
    """Remove a checkpoint in shards; half of one is never left under its name."""
    partial = partial_name(folder.with_name(f"model_removed_{folder.name}"))
    commit(folder, partial)
    shutil.rmtree(partial, ignore_errors=True)
