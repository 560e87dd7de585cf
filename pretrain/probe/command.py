"""Common options of the probing commands: the source of the weights."""

import argparse

from itpn_d2.errors import add_debug


def start_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with ``--weights`` or ``--random``, and ``--name``."""
    p = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    start = p.add_mutually_exclusive_group(required=True)
    start.add_argument(
        "--weights", metavar="FILE", help="checkpoint of any known layout, or its address (itpn://...)"
    )
    start.add_argument("--random", action="store_true", help="use random weights")
    p.add_argument("--name", required=True, help="variant, such as fast_itpn_nano")
    add_debug(p)
    return p
