"""Pre-train a trunk together with its pyramid.

python -m pretrain --config-file configs/Pretrain/pixel_mim_fast_itpn_nano.py dataset.train.root=FOLDER
python -m pretrain --config-file F --resume --num-gpus 8 train.epochs=800
torchrun --nproc_per_node 8 -m pretrain --config-file F

A detector takes the result with train_net.py ... train.init_checkpoint=OUTPUT/model_final.pth
"""

import argparse

from itpn_d2.engine import base_parser, load_config, run_command

from .run import PretrainRun


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    cfg.train.show_groups = cfg.train.show_groups or args.show_groups
    PretrainRun(cfg).train(resume=args.resume)


if __name__ == "__main__":
    run_command(main, base_parser(__doc__).parse_args())
