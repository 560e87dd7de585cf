"""Jobs that are submitted, stopped and queued again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import submit
import submitted
from itpn_d2.signals import REQUEUE

# What a run does: asked to stop, it saves; with --resume it goes on to its end.
RUN = """
import os, pathlib, signal, sys, time
place = pathlib.Path(sys.argv[-1])
names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
line = " ".join([*(os.environ.get(n, "-") for n in names), *sys.argv[1:-1]])
with open(place / os.environ.get("RANK", "0"), "a") as file:
    file.write(line + "\\n")
if "--resume" not in sys.argv:
    def save(*_):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        (place / f"{os.getpid()}.saved").touch()
        for task in place.glob("*.pid"):  # as the processes of a run tell one another
            if int(task.read_text()) != os.getpid():
                try:
                    os.kill(int(task.read_text()), signal.SIGUSR1)
                except ProcessLookupError:
                    pass
        while len(list(place.glob("*.saved"))) < 2:
            time.sleep(0.05)
        os._exit(75)
    signal.signal(signal.SIGUSR1, save)
    (place / f"{os.getpid()}.pid").write_text(str(os.getpid()))
    time.sleep(300)
"""


def test_without_submitit(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with refused(r'pip install "itpn-d2\[cluster\]"'):
        submit.main(["--", "train_net.py"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no command given"),
        (["--nodes", "0", "--", "train_net.py"], "must be at least 1"),
        (["--slurm", "partition", "--", "train_net.py"], "--slurm partition: write KEY=VALUE"),
    ],
)
def test_arguments(refused, arguments, words):
    with refused(words):
        submit.main(arguments)


def test_a_run_goes_on_with_the_same_command():
    assert submitted.resumed(["train_net.py", "--config-file", "F", "a=1"]) == [
        *("train_net.py", "--resume", "--config-file", "F", "a=1")
    ]
    once = submitted.resumed(["-m", "pretrain", "--config-file", "F"])
    assert once == ["-m", "pretrain", "--resume", "--config-file", "F"] == submitted.resumed(once)


def test_the_place_of_a_task():
    task = SimpleNamespace(num_tasks=16, num_nodes=2, global_rank=9, local_rank=1, job_id="31234_7")
    task.hostnames = ["gpu07", "gpu08"]
    assert submitted.place_of(task) == {
        "RANK": "9",
        "WORLD_SIZE": "16",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": str(15000 + 312347 % 15000),
    }
    assert submitted.place_of(SimpleNamespace(num_tasks=1)) == {}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_job_is_stopped_and_queued_again(tmp_path, monkeypatch):
    found = pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(Path(found.__file__).parents[1]))  # and nothing of this project
    script = tmp_path / "run.py"
    script.write_text(RUN)
    place = tmp_path / "place"
    place.mkdir()
    given = ["--cluster", "local", "--processes", "2", "--folder", str(tmp_path / "jobs"), "--minutes", "5"]
    job = submit.submit(submit.parse([*given, "--", str(script), "--config-file", "F", str(place)]))
    try:
        wait_for(lambda: len(list(place.glob("*.pid"))) == 2)
        tasks = subprocess.run(["pgrep", "-P", job.job_id], capture_output=True, text=True).stdout.split()
        assert len(tasks) == 2
        for task in tasks:  # as Slurm does before the time is over
            os.kill(int(task), signal.SIGUSR2)
        assert job.results() == [None, None]
    finally:
        job.cancel(check=False)
    assert len(list(place.glob("*.saved"))) == 2
    for rank in (0, 1):
        first, second = (place / str(rank)).read_text().splitlines()
        assert first == f"{rank} 2 2 127.0.0.1 --config-file F"
        assert second == f"{rank} 2 2 127.0.0.1 --resume --config-file F"


def test_a_command_that_fails_is_said(tmp_path, monkeypatch):
    found = pytest.importorskip("submitit")
    monkeypatch.setattr(found, "JobEnvironment", lambda: SimpleNamespace(num_tasks=1))
    with pytest.raises(RuntimeError, match="exit status 3"):
        submitted.Job(["-c", "raise SystemExit(3)"])()
    submitted.Job(["-c", f"raise SystemExit({REQUEUE})"])()
