"""A run as a job of submitit's. Nothing of the project is imported: a task only starts a program and waits
for it."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_PORTS = range(15000, 30000)


class Job:
    """One task of a run, which submitit keeps as a pickle and calls on a node.

    Args:
        command: arguments of the Python interpreter: a script or ``-m MODULE``, and its own.
    """

    def __init__(self, command: list[str]):
        self.command = command
        self._process: subprocess.Popen | None = None

    def __call__(self) -> None:
        """Run the command to its end.

        Raises:
            RuntimeError: it failed; its messages are in the log of the task.
        """
        import submitit  # where a job runs, it is there

        environment = {**os.environ, **place_of(submitit.JobEnvironment())}
        self._process = subprocess.Popen(
            [sys.executable, *self.command], cwd=ROOT, env=environment, preexec_fn=_ignore_submitit
        )
        status = self._process.wait()
        if status not in (0, os.EX_TEMPFAIL):
            raise RuntimeError(f"{' '.join(self.command)}: exit status {status}")

    def checkpoint(self) -> Any:
        """What submitit queues when the time of the job is nearly over: called in the first task, which asks
        the run to save and waits for it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)
            # Popen.wait(), which this call may have interrupted, holds a lock that can't be taken twice
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        import submitit

        return submitit.helpers.DelayedSubmission(Job(resumed(self.command)))

    def __getstate__(self) -> dict[str, Any]:
        return {"command": self.command, "_process": None}


def _ignore_submitit() -> None:
    """Slurm sends submitit's signal to all processes of a job; it is not for the run."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def resumed(command: list[str]) -> list[str]:
    """The command with ``--resume``, before the overrides at its end."""
    if "--resume" in command:
        return command
    after = 2 if command[0] == "-m" else 1
    return [*command[:after], "--resume", *command[after:]]


def place_of(job: Any) -> dict[str, str]:
    """torchrun's variables for a task of submitit; none where there is only one.

    Args:
        job: submitit's ``JobEnvironment``.
    """
    if job.num_tasks == 1:
        return {}
    number = int(re.sub(r"\D", "", job.job_id) or 0)
    return {
        "RANK": str(job.global_rank),
        "WORLD_SIZE": str(job.num_tasks),
        "LOCAL_RANK": str(job.local_rank),
        "LOCAL_WORLD_SIZE": str(job.num_tasks // job.num_nodes),
        "MASTER_ADDR": "127.0.0.1" if job.num_nodes == 1 else job.hostnames[0],
        "MASTER_PORT": str(_PORTS[number % len(_PORTS)]),
    }
