"""Panoptic FPN on your own COCO panoptic json, nano.

python train_net.py --config-file configs/Custom/panoptic_fpn_fast_itpn_nano.py \
    dataset.train.json=... dataset.train.images=... dataset.train.labels=... \
    dataset.val.json=... dataset.val.images=... dataset.val.labels=...
"""

from ..common.data.panoptic import dataloader, dataset
from ..common.models.panoptic import panoptic
from .mask_rcnn_fast_itpn_nano import lr_multiplier, model, optimizer, train

panoptic(model)
dataloader.image.update(short_sides=[256, 288, 320, 352, 384], test_short_side=320, max_size=640)
dataloader.train.total_batch_size = 8
train.update(output_dir="output/custom_panoptic_fpn_nano", best_metric="ema/panoptic_seg/PQ")
