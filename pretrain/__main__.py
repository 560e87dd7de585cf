"""Pre-train a trunk together with its pyramid.

    itpn-pretrain --config-file Pretrain/pixel_mim_fast_itpn_nano dataset.train.root=FOLDER
    itpn-pretrain --config-file F --resume --num-gpus 8 train.epochs=800
    torchrun --nproc_per_node 8 -m pretrain --config-file F

F is a file, or the name of a config of this project; `python -m pretrain` is the same command.
A detector takes the result with `itpn-train ... train.init_checkpoint=OUTPUT/model_final.pth`.
"""

import sys

from itpn_d2.engine import base_parser, run_command

from .run import main as run


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    run_command(run, base_parser(__doc__).parse_args(arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
