"""Export a model; the console script `itpn-export` of a checkout. See `python tools/export.py --help`."""

import sys

from itpn_d2.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
