"""What the command lines share: their arguments, and where processes run."""

import argparse
from collections.abc import Callable

from ..errors import add_debug, errors_of_use
from .imports import import_all
from .launch import launch
from .origins import shown


def base_parser(description: str | None) -> argparse.ArgumentParser:
    """``--config-file``, ``--resume``, the launch arguments, and ``key=value`` overrides at the end."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--config-file", required=True, metavar="FILE", help="config: a LazyConfig .py, a .yaml, or a name"
    )
    p.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE.py",
        help="run this file, or import this module, before the config is read, for example to register "
        "datasets with Detectron2; may be repeated",
    )
    p.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in train.output_dir"
    )
    p.add_argument(
        "--show-groups", action="store_true", help="print the optimizer's parameter groups, then train"
    )
    p.add_argument(
        "--show-config",
        action="store_true",
        help="print the config and the source of each value, then exit",
    )
    p.add_argument(
        "--num-gpus",
        type=int,
        default=0,
        help="number of GPUs on this machine, one process each (0: no launcher)",
    )
    p.add_argument(
        "--num-processes", type=int, default=1, help="number of processes on the CPU, connected by gloo"
    )
    p.add_argument("--num-machines", type=int, default=1, help="number of machines")
    p.add_argument("--machine-rank", type=int, default=0, help="rank of this machine, counted from 0")
    p.add_argument("--dist-url", default="auto", help="address of the first machine, tcp://HOST:PORT")
    add_debug(p)
    p.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides of the config")
    return p


def run_command(main: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """``main(arguments)`` in as many processes as they ask for; a user error ends with its message."""
    # the processes are joined before the config is read: where they run has to be known here
    device = next((o.partition("=")[2] for o in arguments.opts if o.startswith("train.device=")), None)
    with errors_of_use(arguments.debug):
        if arguments.show_config:
            import_all(arguments.imports)
            print(shown(arguments.config_file, arguments.opts), end="")
            return
        launch(
            _run_here,
            num_gpus=arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            num_processes=arguments.num_processes,
            device=None if device == "auto" else device,
            args=(main, arguments),
        )


def _run_here(main: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    """What each process does."""
    import_all(arguments.imports)
    main(arguments)
