"""Speed and memory: ``backbone`` alone, ``peers`` for the backbone beside other networks, ``train`` for
detectors, ``pretrain`` for masked image modelling, ``deformable`` for the attention of DINO, ``reading`` of
annotations, ``loader`` from file to tensor, ``runs`` for whole iterations with their data; scores: ``heads``
on generated scenes; and ``values``: whether a device computes the right ones.

    python tools/benchmark.py backbone --variant fast_itpn_tiny --sizes 224 512 --plot OUT.png
    python tools/benchmark.py backbone --docs docs
    python tools/benchmark.py peers --docs docs
    python tools/benchmark.py train --variants fast_itpn_nano fast_itpn_tiny --sizes 256 512
    python tools/benchmark.py pretrain --variant fast_itpn_base --cases drop fastmim
    python tools/benchmark.py deformable --cases 4 5
    python tools/benchmark.py reading --docs docs
    python tools/benchmark.py loader --docs docs
    python tools/benchmark.py heads --docs docs
    python tools/benchmark.py values
    python tools/benchmark.py runs --recipes pixel_base mask_rcnn_base

Prints a Markdown table; ``--markdown`` writes it to a file and ``--json`` everything that was measured. All
inputs are random or generated: no data set and no weights are needed.
"""

import argparse
from pathlib import Path

from benchmarks import (
    backbone,
    deformable,
    heads,
    loader,
    peers,
    pretraining,
    reading,
    runs,
    training,
    values,
)
from itpn_d2.errors import add_debug, errors_of_use
from itpn_d2.files import write_json, write_text

MODES = {
    "backbone": backbone,
    "peers": peers,
    "train": training,
    "pretrain": pretraining,
    "deformable": deformable,
    "reading": reading,
    "loader": loader,
    "heads": heads,
    "values": values,
    "runs": runs,
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(dest="mode", required=True)
    for name, module in MODES.items():
        text = module.__doc__ or ""
        mode = modes.add_parser(
            name,
            help=text.splitlines()[0],
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_options(mode)
        mode.add_argument("--device", default="auto", help="auto, cpu or cuda")
        mode.add_argument("--json", type=Path, metavar="OUT")
        add_debug(mode)
        mode.add_argument("--markdown", type=Path, metavar="OUT")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    args = parse(arguments)
    with errors_of_use(args.debug):
        text, found = MODES[args.mode].run(args)
        print(text, end="")
        if args.json:
            write_json(args.json, found)
        if args.markdown:
            write_text(args.markdown, text)


if __name__ == "__main__":
    main()
