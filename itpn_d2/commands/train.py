"""Train or evaluate any config of this project.

    itpn-train --config-file Quickstart/mask_rcnn_fast_itpn_nano
    itpn-train --config-file F --eval-only train.init_checkpoint=output/model_final.pth
    itpn-train --config-file F --resume --num-gpus 4 train.max_iter=9000
    torchrun --nproc_per_node 4 -m itpn_d2.commands.train --config-file F

F is a file, or the name of a config of this project. `python train_net.py` is the same command in a checkout.
"""

import argparse
import sys

from ..engine import Run, base_parser, load_config, run_command


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    p = base_parser(__doc__)
    p.add_argument("--eval-only", action="store_true", help="only evaluate train.init_checkpoint")
    p.add_argument(
        "--skip-bad-records",
        action="store_true",
        help="leave out and count bad records instead of refusing the dataset",
    )
    return p


def run(args: argparse.Namespace) -> None:
    """What each process runs; spawned ones import it from here."""
    cfg = load_config(args.config_file, args.opts)
    cfg.train.show_groups = cfg.train.show_groups or args.show_groups
    prepared = Run(cfg, args.eval_only, args.skip_bad_records)
    if args.eval_only:
        prepared.evaluate()
    else:
        prepared.train(resume=args.resume)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    run_command(run, parser().parse_args(arguments))
    return 0


if __name__ == "__main__":
    # by its importable name, for the processes that are spawned
    from itpn_d2.commands.train import main as importable

    sys.exit(importable())
