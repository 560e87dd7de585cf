"""A progress bar on a terminal; log files get Detectron2's plain lines."""

import sys

from detectron2.utils.events import EventWriter, get_event_storage
from tqdm import tqdm

_SHOWN = {"total_loss": "loss", "lr": "lr", "time": "s/it"}


class ProgressBar(EventWriter):
    """One bar with the remaining time, loss, learning rate and seconds per iteration; nothing when stderr is no terminal."""

    def __init__(self, max_iter: int):
        self.max_iter = max_iter
        self._bar: tqdm | None = None

    def write(self) -> None:
        if not sys.stderr.isatty():
            return
        storage = get_event_storage()
        done = storage.iter + 1
        if self._bar is None:
            self._bar = tqdm(total=self.max_iter, initial=done, dynamic_ncols=True, desc="training", unit="it")
        latest = storage.latest()
        values = {short: f"{latest[name][0]:.4g}" for name, short in _SHOWN.items() if name in latest}
        self._bar.set_postfix(values, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
