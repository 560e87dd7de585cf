"""Train or evaluate any config of this project.

python train_net.py --config-file configs/Quickstart/mask_rcnn_fast_itpn_nano.py
python train_net.py --config-file F --eval-only train.init_checkpoint=output/model_final.pth
python train_net.py --config-file F --resume --num-gpus 4 train.max_iter=9000
torchrun --nproc_per_node 4 train_net.py --config-file F
"""

import argparse

from itpn_d2 import model_zoo  # noqa: F401  (makes itpn:// and hf:// known)
from itpn_d2.engine import TrainingRun, base_parser, load_config, run_command


def parser() -> argparse.ArgumentParser:
    p = base_parser(__doc__)
    p.add_argument("--eval-only", action="store_true", help="evaluate train.init_checkpoint")
    p.add_argument(
        "--skip-bad-records", action="store_true", help="drop and count bad records of a custom dataset"
    )
    return p


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    if args.skip_bad_records:
        for split in ("train", "val"):
            if "skip_bad_records" in (cfg.dataset.get(split) or {}):
                cfg.dataset[split].skip_bad_records = True
    cfg.train.show_groups = cfg.train.show_groups or args.show_groups
    run = TrainingRun(cfg, evaluate_only=args.eval_only)
    if args.eval_only:
        run.evaluate()
    else:
        run.train(resume=args.resume)


if __name__ == "__main__":
    run_command(main, parser().parse_args())
