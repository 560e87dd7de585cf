"""Train or evaluate any config; the console script `itpn-train` of a checkout.

See `python train_net.py --help`.
"""

import sys

from itpn_d2.commands.train import main as command
from itpn_d2.commands.train import parser
from itpn_d2.commands.train import run as main

__all__ = ["main", "parser"]  # main(parser().parse_args()) is one process of a run

if __name__ == "__main__":
    sys.exit(command())
