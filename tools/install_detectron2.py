#!/usr/bin/env python3
"""Make Detectron2 importable; the console script `itpn-install-detectron2` of a checkout.

See `python tools/install_detectron2.py --help`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from itpn_d2.detectron2_wheel.install import main  # noqa: E402 (not importable before)

if __name__ == "__main__":
    sys.exit(main())
