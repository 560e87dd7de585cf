"""Convert a checkpoint between layouts and file formats, or list its contents.

    itpn-convert SOURCE                       # what it holds
    itpn-convert SOURCE TARGET.safetensors    # ours
    itpn-convert SOURCE TARGET.pth --to official

SOURCE is any checkpoint that this project reads: Fast-iTPN, iTPN, HiViT, mmpretrain, FastMIM, a published
DINO or Mask DINO (detrex, official), or its own.
Nothing in it is executed. The extension of TARGET determines the format; values and types are unchanged, bit
for bit. Exit status: 0 done; 2 the file can't be used, or TARGET can't represent it (then nothing is
written).
"""

import argparse
import sys
from pathlib import Path

from ..checkpoint.convert import LAYOUTS, convert, inspect
from ..checkpoint.state import WRAPPERS
from ..errors import add_debug, errors_of_use


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", help="checkpoint file, itpn://... or hf://...")
    p.add_argument(
        "target",
        type=Path,
        nargs="?",
        help="file to write (.pth, .pt or .safetensors); without it, SOURCE is only shown",
    )
    p.add_argument(
        "--to", dest="layout", choices=LAYOUTS, default="itpn_d2", help="layout (names and shapes) of TARGET"
    )
    p.add_argument(
        "--wrapper",
        choices=[*WRAPPERS, "none"],
        default="model",
        help="key of the state dict in a torch file (the official loaders try model, then module)",
    )
    p.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="START",
        help="leave out weights whose names begin with START, such as roi_heads. (may be repeated)",
    )
    p.add_argument("--average", action="store_true", help="use the moving average if the file has one")
    p.add_argument(
        "--num-heads",
        type=int,
        default=8,
        help="attention heads of a published DINO or Mask DINO (default: 8)",
    )
    p.add_argument("--force", action="store_true", help="replace TARGET if it exists")
    add_debug(p)
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(arguments)
    with errors_of_use(args.debug):
        if args.target is None:
            print(inspect(args.source, args.average, args.num_heads))
        else:
            wrapper = "" if args.wrapper == "none" else args.wrapper
            options = (args.layout, wrapper, args.drop, args.average, args.force, args.num_heads)
            print(convert(args.source, args.target, *options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
