"""Train or evaluate any config of this project.

python train_net.py --config-file configs/Quickstart/mask_rcnn_fast_itpn_nano.py
python train_net.py --config-file F --eval-only train.init_checkpoint=output/model_final.pth
python train_net.py --config-file F --resume --num-gpus 4 train.max_iter=9000
torchrun --nproc_per_node 4 train_net.py --config-file F
"""

import argparse
import sys

from itpn_d2.checkpoint import CheckpointError
from itpn_d2.data import DatasetError
from itpn_d2.engine import ConfigError, Run, launch, load_config


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config-file", required=True, metavar="FILE", help="LazyConfig .py, or yacs .yaml")
    p.add_argument("--eval-only", action="store_true", help="evaluate train.init_checkpoint")
    p.add_argument("--resume", action="store_true", help="go on from the last checkpoint in train.output_dir")
    p.add_argument(
        "--skip-bad-records", action="store_true", help="drop and count bad records of a custom dataset"
    )
    p.add_argument("--show-groups", action="store_true", help="print the optimizer's parameter groups")
    p.add_argument(
        "--num-gpus", type=int, default=0, help="GPUs of this machine, one process each (0: no launcher)"
    )
    p.add_argument("--num-processes", type=int, default=1, help="processes on the CPU, through gloo")
    p.add_argument("--num-machines", type=int, default=1)
    p.add_argument("--machine-rank", type=int, default=0, help="the rank of this machine, from 0")
    p.add_argument("--dist-url", default="auto", help="address of the first machine: tcp://HOST:PORT")
    p.add_argument("opts", nargs=argparse.REMAINDER, metavar="key=value", help="overrides of the config")
    return p


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config_file, args.opts)
    if args.skip_bad_records:
        for split in ("train", "val"):
            if "skip_bad_records" in cfg.dataset.get(split, {}):
                cfg.dataset[split].skip_bad_records = True
    cfg.train.show_groups = cfg.train.show_groups or args.show_groups
    run = Run(cfg)
    if args.eval_only:
        run.evaluate()
    else:
        run.train(resume=args.resume)


if __name__ == "__main__":
    arguments = parser().parse_args()
    # the processes are joined before the config is read: where they run has to be known here
    device = next((o.partition("=")[2] for o in arguments.opts if o.startswith("train.device=")), None)
    try:
        launch(
            main,
            num_gpus=arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            num_processes=arguments.num_processes,
            device=None if device == "auto" else device,
            args=(arguments,),
        )
    except (ConfigError, DatasetError, CheckpointError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
