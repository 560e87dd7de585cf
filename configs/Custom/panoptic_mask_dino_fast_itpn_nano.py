"""Mask DINO on your own COCO panoptic json, cut down for CPUs: 50 queries, 2 + 3 layers of 128 channels, 1024
points of a mask (this size and the nano trunk are ours, not the papers').

python train_net.py --config-file configs/Custom/panoptic_mask_dino_fast_itpn_nano.py dataset.train.json=... \
    dataset.train.images=... dataset.train.labels=... dataset.val.json=... dataset.val.images=... \
    dataset.val.labels=...
"""

from ..common.data.panoptic import dataloader, dataset
from ..common.models.dino import boxes_of_things, mask_dino, small_masks
from .mask_dino_fast_itpn_nano import lr_multiplier, optimizer, train

model = mask_dino("fast_itpn_nano", task="panoptic", dim=128, hidden=512, layers=(2, 3), queries=50)
small_masks(model)
boxes_of_things(model)
model.backbone.fpn_dim = 128
model.denoising.number = 25
dataloader.image.update(short_sides=[256, 288, 320, 352, 384], test_short_side=320, max_size=640)
dataloader.train.total_batch_size = 8
train.update(output_dir="output/custom_panoptic_mask_dino_nano", best_metric="ema/panoptic_seg/PQ")
