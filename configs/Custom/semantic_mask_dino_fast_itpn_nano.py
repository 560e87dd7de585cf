"""Mask DINO on your own label images, cut down for CPUs: 30 queries, 2 + 3 layers of 128 channels, 1024
points of a mask (this size and the nano trunk are ours, not the papers').

python train_net.py --config-file configs/Custom/semantic_mask_dino_fast_itpn_nano.py \
    dataset.classes=classes.txt dataset.train.images=... dataset.train.labels=... \
    dataset.val.images=... dataset.val.labels=...
"""

from ..common.data.semantic import dataloader, dataset
from ..common.models.dino import mask_dino, small_masks
from .mask_dino_fast_itpn_nano import lr_multiplier, optimizer, train

model = mask_dino("fast_itpn_nano", task="semantic", dim=128, hidden=512, layers=(2, 3), queries=30)
small_masks(model)
model.backbone.fpn_dim = 128
model.denoising.number = 15
dataloader.image.update(short_sides=[192, 512], crop=[256, 256], test_short_side=320, max_size=1280)
dataloader.train.mapper.augmentations.max_size = 2560
dataloader.train.total_batch_size = 8
train.update(output_dir="output/custom_semantic_mask_dino_nano", best_metric="ema/sem_seg/mIoU")
