"""What the probing commands share: where the weights come from, and how errors of use end."""

import argparse
import sys
from collections.abc import Callable

from itpn_d2.checkpoint import CheckpointError
from itpn_d2.data import DatasetError


def start_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--weights`` or ``--random``, and ``--name``."""
    p = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    start = p.add_mutually_exclusive_group(required=True)
    start.add_argument("--weights", metavar="FILE", help="checkpoint of any known layout")
    start.add_argument("--random", action="store_true", help="no weights: what the random trunk gives")
    p.add_argument("--name", required=True, help="variant, such as fast_itpn_nano")
    return p


def status_of(work: Callable[[], None]) -> int:
    """Run ``work``; the exit status: 1 after an error of use, whose message is printed."""
    try:
        work()
    except (DatasetError, CheckpointError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyError as error:
        print(f"error: {error.args[0]}", file=sys.stderr)
        return 1
    return 0
