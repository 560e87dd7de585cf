import io
import logging
import re
import sys

import pytest
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from itpn_d2.engine.progress import ProgressBar


class Terminal(io.StringIO):
    def __init__(self, tty=True):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return self.tty


def train(bar, start, stop, after=None):
    """The storage as Detectron2's trainer leaves it; the bar written each iteration and once at the end."""
    with EventStorage(start) as storage:
        for i in range(start, stop):
            storage.iter = i
            storage.put_scalars(total_loss=2.5, lr=0.01, time=0.125)
            bar.write()
            if after:
                after(i)
        storage.iter = stop
        bar.write()
        shown = bar._bar.n if bar._bar is not None else None
        bar.close()
    return shown


def frames(terminal):
    return re.split(r"[\r\n]+", terminal.getvalue().strip())


def test_shows_loss_rate_and_the_end(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("COLUMNS", raising=False)  # a width, at which the bar would be cut off
    assert train(ProgressBar(30), 0, 30) == 30
    last = frames(terminal)[-1]
    assert "30/30" in last and "31/" not in terminal.getvalue()
    for part in ("loss=2.5", "lr=0.01", "s/it=0.125", "mem="):
        assert part in last


def test_moves_between_losses(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar, shown = ProgressBar(40), []
    with EventStorage(0) as storage:
        for storage.iter in range(25):
            storage.put_scalar("lr", 0.1)
            if storage.iter % 20 == 19:
                storage.put_scalar("total_loss", 1.0)
            bar.write()
            shown.append(bar._bar.n)
    bar.close()
    assert shown == list(range(1, 26))


def test_resumed_run_starts_where_it_was(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert train(ProgressBar(100), 40, 45) == 45  # stopped early: no further than what was trained
    assert "41/100" in frames(terminal)[0] and "45/100" in frames(terminal)[-1]


@pytest.mark.parametrize(("tty", "main"), [(False, True), (True, False)])
def test_silent_without_terminal_or_in_other_processes(monkeypatch, tty, main):
    terminal = Terminal(tty)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(comm, "is_main_process", lambda: main)
    assert train(ProgressBar(5), 0, 5) is None
    assert terminal.getvalue() == ""


def test_silent_before_the_first_loss(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = ProgressBar(5)
    with EventStorage(0):
        bar.write()
    bar.close()
    assert terminal.getvalue() == ""


def test_log_lines_stay_whole_and_handlers_come_back(monkeypatch, tmp_path):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logger = logging.getLogger("tests.progress")
    monkeypatch.setattr(logger, "propagate", False)
    console, file = logging.StreamHandler(terminal), logging.FileHandler(tmp_path / "log.txt")
    monkeypatch.setattr(logger, "handlers", [console, file])
    train(ProgressBar(6), 0, 6, after=lambda i: logger.warning("line %d", i))
    file.close()
    for i in range(6):
        assert f"line {i}" in [f.strip() for f in frames(terminal)]  # not glued to the bar
    assert logger.handlers == [console, file]
    assert (tmp_path / "log.txt").read_text().splitlines() == [f"line {i}" for i in range(6)]
