"""Which of several processes failed first, and its exception in their parent."""

import os
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch.multiprocessing as mp

from ..files import written_whole
from ..signals import REQUEUE

_Main = Callable[..., Any]


class ChildTraceback(Exception):
    """The traceback of a process that failed, as the cause of the exception raised again in its parent."""


@dataclass
class Reporting:
    """``main`` that leaves its exception as a file: which failure came first is known only between processes.

    The others fail a moment later, when their connection breaks, and may end sooner.
    """

    main: _Main
    folder: str

    def __call__(self, *args: Any) -> Any:
        """What ``main`` returns; an exception is written into ``folder`` and raised again."""
        try:
            return self.main(*args)
        except Exception as error:
            report = Path(self.folder) / f"{time.monotonic_ns():020d}_{os.getpid()}"
            content = pickle.dumps((_pickled(error), traceback.format_exc()))
            with written_whole(report) as partial:
                partial.write_bytes(content)
            raise


def _pickled(error: Exception) -> bytes | None:
    try:
        content = pickle.dumps(error)
        pickle.loads(content)  # an __init__ with arguments of its own fails only here
        return content
    except Exception:
        return None


@contextmanager
def first_failure() -> Iterator[str]:
    """A folder for the reports of :class:`Reporting`; the earliest is raised when the processes fail."""
    with tempfile.TemporaryDirectory(prefix="itpn_d2_launch_") as folder:
        try:
            yield folder
        except (mp.ProcessRaisedException, mp.ProcessExitedException) as failure:
            if isinstance(failure, mp.ProcessExitedException) and failure.exit_code == REQUEUE:
                raise SystemExit(REQUEUE) from failure
            reports = sorted(p for p in Path(folder).iterdir() if not p.name.startswith("."))
            if not reports:  # killed, or failed before its main began
                raise
            _raise_again(reports[0].read_bytes(), failure)


def _raise_again(report: bytes, failure: Exception) -> NoReturn:
    error, text = pickle.loads(report)
    if error is None:
        raise RuntimeError(f"a process failed:\n{text}") from failure
    raise pickle.loads(error) from ChildTraceback(f"\n{text}")
