"""Predictions that are kept on the disk until they are evaluated."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm

from ..files import writing, written_whole

_PIECE = 1 << 22  # bytes that are sent at once


class Spill:
    """Results of one process, a line of json each, in a file without a name: whatever ends the process,
    nothing is left of it.

    Args:
        folder: where the file lies, made where it is missing; None for the system's temporary one.

    Raises:
        OutputError: of :meth:`add`: the disk is full, or the like.
    """

    def __init__(self, folder: str | None = None):
        self._place = Path(folder or tempfile.gettempdir())
        with writing(self._place / "predictions"):
            self._place.mkdir(parents=True, exist_ok=True)
            # not "with": it lives as long as this object
            self._file = tempfile.TemporaryFile(dir=self._place)  # noqa: SIM115
        self.count = 0

    def add(self, results: Iterable[dict[str, Any]]) -> None:
        """Append results to the file.

        Raises:
            OutputError: the disk is full, or the like.
        """
        lines = [json.dumps(result) for result in results]
        self.count += len(lines)
        with writing(self._place / "predictions"):
            self._file.seek(0, os.SEEK_END)
            self._file.writelines(f"{line}\n".encode() for line in lines)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


def write_list(path: Path, results: Iterable[dict[str, Any]]) -> None:
    """Write the results of all processes, in the order of their ranks, as one json list; collective.

    The main process writes what comes in as it comes: it never holds more than a few MiB of it.

    Raises:
        OutputError: it can't be written.
    """
    if not comm.is_main_process():
        _send(_pieces(results))
        return
    with written_whole(path) as partial, partial.open("wb") as file:
        file.write(b"[")
        start = True
        for rank in range(comm.get_world_size()):
            for piece in _pieces(results) if rank == 0 else _received(rank):
                file.write(piece if start else b", " + piece)
                start = False
        file.write(b"]\n")


def _pieces(results: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """Some results each, with commas between them."""
    lines: list[str] = []
    size = 0
    for result in results:
        lines.append(json.dumps(result))
        size += len(lines[-1])
        if size >= _PIECE:
            yield ", ".join(lines).encode()
            lines, size = [], 0
    if lines:
        yield ", ".join(lines).encode()


def _send(pieces: Iterable[bytes]) -> None:
    group = comm._get_global_gloo_group()
    for piece in pieces:
        dist.send(torch.tensor([len(piece)]), 0, group)
        dist.send(torch.frombuffer(bytearray(piece), dtype=torch.uint8), 0, group)
    dist.send(torch.tensor([0]), 0, group)


def _received(rank: int) -> Iterator[bytes]:
    group, size = comm._get_global_gloo_group(), torch.tensor([0])
    while True:
        dist.recv(size, rank, group)
        if not size:
            return
        piece = torch.empty(int(size), dtype=torch.uint8)
        dist.recv(piece, rank, group)
        yield piece.numpy().tobytes()
