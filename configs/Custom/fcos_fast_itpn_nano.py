"""FCOS on your own COCO json, nano, with a slim head.

python train_net.py --config-file configs/Custom/fcos_fast_itpn_nano.py \
    dataset.train.json=... dataset.train.images=... dataset.val.json=... dataset.val.images=...
"""

from ..common.models.dense import fcos
from .faster_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model = fcos("fast_itpn_nano", dim=128, convs=2)
train.output_dir = "output/custom_fcos_nano"
