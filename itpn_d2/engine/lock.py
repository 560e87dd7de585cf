"""One run for each output folder."""

import logging
import os
import platform
import weakref
from pathlib import Path
from typing import IO, Any

import portalocker

from ..errors import ConfigError

logger = logging.getLogger(__name__)
_NOW = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_held: "weakref.WeakValueDictionary[Path, FolderLock]" = weakref.WeakValueDictionary()  # by this process


class FolderLock:
    """A lock on an output folder, held within a ``with`` block. It ends with the block, with the object or
    with the process, however that ends, and a process may claim a folder several times.

    Args:
        wanted: False for processes of a run that leave the claim to the main one.
    """

    def __init__(self, folder: Path, wanted: bool = True):
        self.folder, self.wanted = folder, wanted
        self.path = folder.resolve() / ".lock"
        self._file: IO[Any] | None = None

    def acquire(self) -> None:
        """Claim the folder.

        Raises:
            ConfigError: another process writes there.
        """
        if not self.wanted or self.path in _held:
            return
        file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 (stays open: closing gives it up)
        try:
            portalocker.lock(file, _NOW)
        except portalocker.AlreadyLocked as error:
            file.seek(0)
            holder = file.read().strip() or "an unknown process"
            file.close()
            raise ConfigError(
                f"train.output_dir={self.folder}: another run is writing there ({holder}). Wait until it "
                "has finished, stop it, or choose another folder"
            ) from error
        except portalocker.LockException as error:
            file.close()
            logger.warning(
                "%s can't be locked here (%s), so nothing stops a second run from writing there",
                self.folder,
                error,
            )
            return
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        self._file = file
        _held[self.path] = self

    def release(self) -> None:
        """Give the folder up."""
        if self._file is not None:
            _held.pop(self.path, None)
            self._file.close()
            self._file = None

    def __enter__(self) -> "FolderLock":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _forget() -> None:
    """A forked worker holds no claim: it may live a little longer than a main process that was killed."""
    for lock in list(_held.values()):
        if lock._file is not None:
            lock._file.close()
            lock._file = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
