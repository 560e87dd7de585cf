"""Predict on images, folders and videos; the console script `itpn-demo` of a checkout.

See `python demo/demo.py --help`.
"""

import sys

from itpn_d2.commands.demo import main

if __name__ == "__main__":
    sys.exit(main())
