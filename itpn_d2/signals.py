"""Requests to stop: the signals that mean one, and what a process that followed one tells its starter."""

import signal

# SIGUSR1 is what Slurm is asked to send before a job's time is over (--signal=USR1@120); Windows has none
REQUESTS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
REQUEUE = 75  # exit status after SIGUSR1: "try again" (EX_TEMPFAIL of sysexits.h)


def asks_to_requeue(number: int) -> bool:
    """Whether a signal says that the job will be started again."""
    return number == getattr(signal, "SIGUSR1", None)
