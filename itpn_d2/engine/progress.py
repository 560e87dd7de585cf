"""A progress bar on a terminal; log files get Detectron2's plain lines."""

import logging
import sys
from contextlib import ExitStack

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]


class ProgressBar(EventWriter):
    """One bar: remaining time, loss, learning rate, seconds per iteration and peak memory.

    Silent unless stderr is a terminal, and in every process but the main one. While it is open, log lines of
    the console appear above it. Loss and time are medians over ``window`` iterations, as in the log.
    """

    def __init__(self, max_iter: int, window: int = 20):
        self.max_iter, self.window = max_iter, window
        self._bar: tqdm | None = None
        self._redirected = ExitStack()

    def write(self) -> None:
        """Move the bar to the last iteration that the storage knows of; the first call opens it."""
        if not (comm.is_main_process() and sys.stderr.isatty()):
            return
        storage = get_event_storage()
        latest = storage.latest()
        known = [latest[name][1] for name in ("total_loss", "lr") if name in latest]
        if not known:
            return
        # The storage's own counter is one further on when training has ended, and losses come now and then.
        done = min(int(max(known)) + 1, self.max_iter)
        bar = self._bar or self._open(done)
        bar.set_postfix(_shown(storage, self.window), refresh=False)
        bar.update(done - bar.n)

    def _open(self, done: int) -> tqdm:
        self._bar = tqdm(
            total=self.max_iter, initial=done, dynamic_ncols=True, desc="training", file=sys.stderr
        )
        self._redirected.enter_context(logging_redirect_tqdm(_console_loggers()))
        return self._bar

    def close(self) -> None:
        """Close the bar, and give the console back to the log."""
        self._redirected.close()
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _shown(storage: EventStorage, window: int) -> dict[str, str]:
    smooth = storage.latest_with_smoothing_hint(window)
    names = {"total_loss": "loss", "lr": "lr", "time": "s/it"}
    shown = {short: f"{smooth[name][0]:.4g}" for name, short in names.items() if name in smooth}
    memory = peak_memory()
    return shown if memory is None else {**shown, "mem": f"{memory / 2**30:.1f}G"}


def peak_memory() -> float | None:
    """Bytes: of the GPU if it is used, else of this process, where the system tells."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _console_loggers() -> list[logging.Logger]:
    """Those that write to the terminal themselves: each of Detectron2's has handlers of its own."""
    known = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        logger
        for logger in known
        if isinstance(logger, logging.Logger)
        and any(getattr(h, "stream", None) in (sys.stdout, sys.stderr) for h in logger.handlers)
    ]
