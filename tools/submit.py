"""Submit a training or a pre-training to Slurm by submitit, as often as it takes.

    python tools/submit.py --nodes 2 --processes 8 --gpus 8 --minutes 1440 --slurm partition=gpu account=a \\
        -- train_net.py --config-file F key=value
    python tools/submit.py --cluster local --processes 2 -- -m pretrain --config-file F

What stands behind -- is run by this Python on each of ``processes`` tasks of each node, which are one run.
Before its time is over, or when it is preempted, the run saves a checkpoint, is queued again and goes on
with ``--resume``. Needs submitit: pip install "itpn-d2[cluster]".
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import cloudpickle

import submitted
from itpn_d2.errors import ConfigError, add_debug, errors_of_use

_REQUESTS = 100  # times that a job is queued again because its time was over


def submitit() -> Any:
    """The module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import submitit as found
    except ImportError as error:
        raise ConfigError('submitting needs submitit: pip install "itpn-d2[cluster]"') from error
    return found


def parse(arguments: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cluster", choices=["slurm", "local"], default="slurm")
    p.add_argument("--nodes", type=int, default=1, help="number of machines")
    p.add_argument("--processes", type=int, default=1, help="number of tasks per node, one for each GPU")
    p.add_argument("--gpus", type=int, default=0, help="number of GPUs per node")
    p.add_argument("--cpus", type=int, default=1, help="number of CPU cores per task")
    p.add_argument("--minutes", type=int, default=60, help="time limit after which the job is queued again")
    p.add_argument(
        "--warning",
        type=int,
        default=120,
        metavar="SECONDS",
        help="seconds before the time limit at which the job is told to save a checkpoint",
    )
    p.add_argument("--name", default="itpn_d2", help="name of the job")
    p.add_argument(
        "--folder", type=Path, default=Path("output/submitted"), help="folder for the job's logs and pickles"
    )
    p.add_argument(
        "--slurm",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="further Slurm options, such as partition=gpu or qos=...",
    )
    add_debug(p)
    p.add_argument(
        "command",
        nargs="*",
        metavar="-- COMMAND",
        help="command to run: train_net.py ..., or -m pretrain ...",
    )
    args = p.parse_args(arguments)
    if not args.command:
        p.error("no command given; append -- train_net.py --config-file F")
    if min(args.nodes, args.processes, args.minutes) < 1:
        p.error("--nodes, --processes and --minutes must be at least 1")
    if wrong := [text for text in args.slurm if not re.fullmatch(r"\w+=.+", text)]:
        p.error(f"--slurm {' '.join(wrong)}: write KEY=VALUE")
    return args


def submit(args: argparse.Namespace) -> Any:
    """Submit the job; returns submitit's.

    Raises:
        ConfigError: submitit or the cluster is not there, or does not take a parameter.
    """
    module = submitit()
    cloudpickle.register_pickle_by_value(submitted)  # on the nodes, this folder is no place of modules
    try:
        executor = module.AutoExecutor(args.folder, cluster=args.cluster, slurm_max_num_timeout=_REQUESTS)
        executor.update_parameters(
            name=args.name,
            nodes=args.nodes,
            tasks_per_node=args.processes,
            gpus_per_node=args.gpus,
            cpus_per_task=args.cpus,
            timeout_min=args.minutes,
            slurm_signal_delay_s=args.warning,
            **{f"slurm_{key}": value for key, _, value in (text.partition("=") for text in args.slurm)},
        )
        return executor.submit(submitted.Job(args.command))
    except (RuntimeError, ValueError, NameError, FileNotFoundError) as error:
        raise ConfigError(f"--cluster {args.cluster}: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    with errors_of_use(args.debug):
        job = submit(args)
        print(f"job {job.job_id}; log: {job.paths.stdout}")
        if args.cluster == "local":
            job.result()  # its processes would end with this one
    return 0


if __name__ == "__main__":
    sys.exit(main())
