"""Reading data in one process of a machine, for all processes of that machine."""

import logging
import mmap
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from detectron2.utils import comm

from ..errors import DatasetError, UseError
from ..files import writing

logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_ALIGNED = 64  # bytes
_LENGTH = 8  # bytes of a number


def read_once(what: str, read: Callable[[], _T]) -> _T:
    """What ``read()`` gives, called in the first process of each machine only; collective.

    That process writes it to a file without a name, of which nothing is left whatever ends the run, and all
    of the machine map it: large arrays, such as those of :class:`.PathTable` and :class:`.RecordTable`, are
    in memory once. Where a process can't see the file of another (containers of their own), it reads itself.

    Args:
        what: is read, for the log.

    Raises:
        UseError: the one of the first process that failed, in all of them.
        RuntimeError: it failed with another exception, which it raises itself.
    """
    if comm.get_world_size() == 1 or comm._LOCAL_PROCESS_GROUP is None:
        return read()
    place, failure, error = "", None, None
    with tempfile.TemporaryFile() as file:
        if comm.get_local_rank() == 0:
            try:
                _write(file, read())
                place = f"/proc/{os.getpid()}/fd/{file.fileno()}"
            except Exception as raised:
                error, failure = raised, _told(raised)
        told = comm.all_gather((place, failure))
        failures = [reason for _, reason in told if reason is not None]
        if error is not None and not isinstance(error, UseError):
            raise error
        if failures:
            raise failures[0]
        found: Any = _mapped(told[comm.get_rank() - comm.get_local_rank()][0])
        comm.synchronize()  # until all have it, the file has to be open
    if found is None:
        logger.warning(
            "%s: the file that the first process of this machine wrote is not visible here, "
            "so this process reads for itself",
            what,
        )
        return read()
    result: _T = found[0]
    return result


def _told(error: Exception) -> Exception:
    """The error that the other processes raise."""
    if isinstance(error, UseError):
        try:
            return pickle.loads(pickle.dumps(error))
        except Exception:
            return DatasetError(str(error))
    return RuntimeError(f"process {comm.get_rank()} failed while it read: {type(error).__name__}: {error}")


def _write(file: IO[bytes], value: Any) -> None:
    """The number of buffers, their sizes and that of the pickle; the pickle; the buffers."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps((value,), protocol=5, buffer_callback=buffers.append)
    views = [buffer.raw() for buffer in buffers]
    numbers = [len(views), *(len(view) for view in views), len(content)]
    with writing(Path(tempfile.gettempdir()) / "what was read"):
        file.write(b"".join(number.to_bytes(_LENGTH, "little") for number in numbers))
        file.write(content)
        for view in views:
            file.write(bytes(-file.tell() % _ALIGNED))
            file.write(view)
        file.flush()


def _mapped(path: str) -> tuple[Any] | None:
    """The value in a tuple, whose large parts stay in the file; None where there is no such file."""
    try:
        with open(path, "rb") as file:
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError:
        return None

    def number(index: int) -> int:
        return int.from_bytes(whole[index * _LENGTH : (index + 1) * _LENGTH], "little")

    count = number(0)
    start = (count + 2) * _LENGTH
    end = start + number(count + 1)
    content, buffers = whole[start:end], []
    for index in range(count):
        end += -end % _ALIGNED
        buffers.append(whole[end : end + number(index + 1)])
        end += number(index + 1)
    found: tuple[Any] = pickle.loads(content, buffers=buffers)
    return found
