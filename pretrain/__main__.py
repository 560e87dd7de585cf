"""Pre-train a trunk together with its pyramid.

python -m pretrain --config-file configs/Pretrain/pixel_mim_fast_itpn_nano.py dataset.train.root=FOLDER
python -m pretrain --config-file F --resume --num-gpus 8 train.epochs=800
torchrun --nproc_per_node 8 -m pretrain --config-file F

A detector takes the result with train_net.py ... train.init_checkpoint=OUTPUT/model_final.pth
"""

from itpn_d2.engine import base_parser, run_command

from .run import main

if __name__ == "__main__":
    run_command(main, base_parser(__doc__).parse_args())
