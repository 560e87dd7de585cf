"""The one way to write a file whole, and the folder of caches. Imports only the errors.

A file is written under a temporary name in the same folder, flushed to the disk and renamed: under its own
name there is no file, the old content or the complete new content, also after a power cut. The temporary name
contains the machine and the process, so that :func:`remove_partials` can recognise the files that a dead
process has left.
"""

import errno
import json
import logging
import math
import os
import re
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from .errors import OutputError

logger = logging.getLogger(__name__)
_STALE = 7 * 24 * 3600.0  # seconds after which a partial file of another machine counts as left behind
_PARTIAL = re.compile(r"\.(?P<host>[\w-]*)\.(?P<pid>\d+)\.partial(\.\w+)?$")
_LONGEST = 120  # characters of a name that its temporary name keeps: file systems allow 255 bytes


@cache
def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:40]


def partial_name(path: Path) -> Path:
    """The temporary name of ``path``, a hidden neighbour with the same suffix, by which many writers choose
    the format. The folder is made where it is missing.

    Raises:
        OutputError: the folder can't be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: its folder can't be created ({_reason(error, path.parent)})") from error
    try:
        stem = path.stem.encode()[:_LONGEST].decode(errors="ignore")
    except UnicodeEncodeError:  # a name that is not UTF-8, which libraries in C++ do not take
        stem = f"{zlib.crc32(os.fsencode(path.stem)):08x}"
    return path.with_name(f".{stem}.{_host()}.{os.getpid()}.partial{path.suffix[:20]}")


def commit(partial: Path, path: Path) -> None:
    """Flush ``partial``, a file or a folder, to the disk and rename it to ``path``.

    Raises:
        OutputError: it can't be done.
    """
    try:
        if partial.is_file():
            _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: can't be written ({_reason(error, path.parent)})") from error


def _sync(path: Path) -> None:
    """Wait until the content of a file or the names in a folder are on the disk, where a system can say."""
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        if path.is_file():
            raise
        return
    try:
        os.fsync(number)
    except OSError as error:
        # some network file systems know no fsync; what is full or broken is an error all the same
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(number)


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """The name to write ``path`` under; at the end of the block the file gets its own name, and after an
    exception it is removed.

    Raises:
        OutputError: the disk is full, the place can't be written to, or the like.
    """
    path = Path(path)
    partial = partial_name(path)
    try:
        with writing(path):
            yield partial
            commit(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a write error inside the block into a user error that names ``path`` and the reason.

    Raises:
        OutputError: the disk is full, the place can't be written to, or the like.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OutputError) or not _is_of_writing(error, path.parent):
            raise
        raise OutputError(f"{path}: can't be written ({_reason(error, path.parent)})") from error


def make_folder(folder: str | Path) -> Path:
    """Make a folder if it is missing, and check that files can be written to it.

    Raises:
        OutputError: it can't be; the message says why.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as error:
        taken = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is in its place" if taken else _reason(error, folder.parent)
        raise OutputError(
            f"{str(folder)[:300]}: not a folder that can be written to ({reason}); choose another folder"
        ) from error
    return folder


def _is_of_writing(error: BaseException | None, folder: Path) -> bool:
    """Whether an exception comes from the disk. Libraries in C++ hide an OSError behind errors of their own;
    a disk without room explains those."""
    while error is not None:
        if isinstance(error, OSError):
            return True
        error = error.__cause__ or error.__context__
    return _is_full(folder)


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < 1 << 20
    except OSError:
        return False


def _reason(error: BaseException, folder: Path) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or _is_full(folder):
        return f"the disk of {folder} is full: make room, or choose another folder"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(error) or type(error).__name__


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all. Characters that UTF-8 lacks, from file names in other
    encodings, are written as ``\\udcXX``.

    Raises:
        OutputError: it can't be written.
    """
    with written_whole(path) as partial:
        partial.write_bytes(text.encode("utf-8", errors="backslashreplace"))


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write ``value`` as strict json, whole or not at all. Numbers that are not finite, which json lacks,
    become null.

    Raises:
        OutputError: it can't be written.
    """
    write_text(path, json.dumps(_finite(value), indent=indent, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def remove_partials(folder: str | Path) -> list[Path]:
    """Remove the temporary files and folders that dead processes have left in ``folder`` (not below it).

    Those of living processes are kept. It can't be known whether a process on another machine is alive: its
    files are removed after a week.

    Returns:
        What was removed.
    """
    removed = []
    with suppress(OSError):
        for path in Path(folder).iterdir():
            match = _PARTIAL.search(path.name)
            if match is None or not _left_behind(path, match["host"], int(match["pid"])):
                continue
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    if removed:
        logger.info("removed %d unfinished files of earlier processes in %s", len(removed), folder)
    return removed


def _left_behind(path: Path, host: str, pid: int) -> bool:
    if host == _host():
        return not is_alive(pid)
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > _STALE
    return False


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; where that can't be known, it counts as running."""
    if os.name != "posix":  # on Windows, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@cache
def _usable_root(wanted: Path) -> Path:
    try:
        if not str(wanted).startswith("~"):  # else nobody knows where the home is
            wanted.mkdir(parents=True, exist_ok=True)
            if os.access(wanted, os.W_OK):
                return wanted
    except OSError:
        pass
    fallback = Path(tempfile.gettempdir()) / f"itpn_d2_cache_{getattr(os, 'getuid', lambda: 0)()}"
    logger.warning(
        "%s can't be written to; using %s. Set ITPN_D2_CACHE to a writable folder", wanted, fallback
    )
    return fallback


def cache_root() -> Path:
    """``$ITPN_D2_CACHE``, else ``~/.cache/itpn_d2``; a folder for temporary files, with a line in the log,
    if neither can be written to."""
    named = os.environ.get("ITPN_D2_CACHE") or "~/.cache/itpn_d2"
    return _usable_root(Path(os.path.expanduser(named)))
