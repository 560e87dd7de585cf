"""A web page of this machine; the console script `itpn-app` of a checkout.

See `python demo/app.py --help`.
"""

import sys

from itpn_d2.commands.app import main

if __name__ == "__main__":
    sys.exit(main())
