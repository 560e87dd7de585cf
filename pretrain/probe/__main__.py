"""Probe the features of a pre-trained trunk on labelled images, without fine-tuning it.

python -m pretrain.probe --weights FILE --name fast_itpn_nano --train IMAGES --test IMAGES
python -m pretrain.probe --config-file configs/Custom/linear_probe_fast_itpn_nano.py --opts \
    dataset.train.images=IMAGES dataset.val.images=IMAGES train.init_checkpoint=FILE
torchrun --nproc_per_node 8 -m pretrain.probe ...

IMAGES is a folder with one sub-folder per class, or a text file with lines path,label.
"""

import argparse
import sys
from collections.abc import Sequence

import torch

from itpn_d2.engine import launch
from itpn_d2.errors import config_errors, errors_of_use

from .command import start_parser
from .config import expand
from .features import LEVELS
from .run import DTYPES, report


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = start_parser("python -m pretrain.probe", __doc__)
    p.add_argument(
        "--config-file", metavar="F", help="classifier config that sets the other required options"
    )
    p.add_argument("--opts", metavar="key=value", help="overrides of the config, after all other options")
    p.add_argument("--average", action="store_true", help="use the moving average if the file has one")
    p.add_argument("--train", required=True, metavar="IMAGES", help="training images")
    p.add_argument("--test", required=True, metavar="IMAGES", help="test images")
    p.add_argument("--root", default="", help="folder to which relative paths in text files refer")
    p.add_argument(
        "--image-size", type=int, default=224, help="side of the images in pixels (default: %(default)s)"
    )
    p.add_argument(
        "--crop-fraction",
        type=float,
        default=0.875,
        help="fraction of the short side that the centre crop covers",
    )
    p.add_argument(
        "--level",
        default="f3",
        choices=LEVELS,
        help="feature map to average: stage 3, or a level of the pyramid",
    )
    p.add_argument("--k", type=int, default=20, help="number of neighbours")
    p.add_argument("--temperature", type=float, default=0.07, help="temperature of the neighbours' votes")
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--num-workers", type=int, default=2)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", default="float32", choices=DTYPES, help="precision of the trunk")
    p.add_argument("--seed", type=int, default=0, help="seed of the random weights and the held-out split")
    p.add_argument("--num-gpus", type=int, default=0, help="number of GPUs on this machine, one process each")
    p.add_argument(
        "--num-processes", type=int, default=1, help="number of processes on the CPU, with --device cpu"
    )
    p.add_argument("--json", metavar="OUT", help="also write the results to this file")
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with errors_of_use("--debug" in given):
        with config_errors():
            args = parser().parse_args(expand(given))
        launch(
            report,
            num_gpus=args.num_gpus,
            num_processes=args.num_processes,
            device="cpu" if args.num_processes > 1 else args.device,
            args=(args,),
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
