"""Train or evaluate any config; the console script `itpn-train` of a checkout.

See `python train_net.py --help`.
"""

import sys

from itpn_d2.commands.train import main

if __name__ == "__main__":
    sys.exit(main())
