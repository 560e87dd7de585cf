"""Inspect or convert a checkpoint; the console script `itpn-convert` of a checkout.

See `python tools/convert_checkpoint.py --help`.
"""

import sys

from itpn_d2.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
