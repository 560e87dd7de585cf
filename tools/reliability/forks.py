"""Calls in processes of their own: cheap, since all imports are done, and free to crash, hang or be killed.

POSIX only: a process is a fork of this one.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from itpn_d2.errors import EXIT_CODE, errors_of_use

ACCEPTED, NAMED, RAW, CRASH, HANG = "accepted", "named", "raw", "crash", "hang"


@dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        kind: ``accepted`` (it returned), ``named`` (a user error), ``raw`` (any other exception),
            ``crash`` (a signal ended it), ``hang`` (it took longer than allowed).
        text: the end of what it wrote.
    """

    kind: str
    seconds: float
    text: str


def start(call: Callable[[], object], log: Path) -> int:
    """Begin ``call()`` in a fork, leader of a new process group, which writes to ``log``; the process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, errors="backslashreplace") for n in (1, 2))
        with errors_of_use():
            call()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else EXIT_CODE if ended.code is not None else 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def wait(child: int, seconds: float) -> int | None:
    """The exit status of a child, negative where a signal ended it; None where it is not over in time."""
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def kill(child: int) -> None:
    """End a child with all that it has started, at once."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # so young that it leads no group yet
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def outcome(call: Callable[[], object], log: Path, seconds: float) -> Outcome:
    """``call()`` in a fork, and how it ended."""
    began = time.monotonic()
    child = start(call, log)
    status = wait(child, seconds)
    if status is None:
        kill(child)
    took = time.monotonic() - began
    text = log.read_text(encoding="utf-8", errors="replace")[-3000:] if log.is_file() else ""
    if status is None:
        kind = HANG
    elif status < 0:
        kind = CRASH
    elif status == 0:
        kind = ACCEPTED
    else:
        kind = NAMED if status == EXIT_CODE and "Traceback (most recent call last)" not in text else RAW
    return Outcome(kind, took, text)
