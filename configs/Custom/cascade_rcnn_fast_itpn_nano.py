"""Cascade R-CNN (boxes only) on your own COCO json, nano.

python train_net.py --config-file configs/Custom/cascade_rcnn_fast_itpn_nano.py \
    dataset.train.json=... dataset.train.images=... dataset.val.json=... dataset.val.images=...
"""

from ..common.models.cascade import cascade
from .faster_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

cascade(model)
train.output_dir = "output/custom_cascade_rcnn_nano"
