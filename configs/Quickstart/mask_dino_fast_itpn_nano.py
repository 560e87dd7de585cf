"""Mask DINO on generated scenes, cut down to what a CPU trains: 30 queries, 2 + 3 layers of 96 channels, 512
points of a mask (ours, not the paper's)."""

from ..common.models.dino import mask_dino, small_masks
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model = mask_dino("fast_itpn_nano", dim=96, heads=6, hidden=256, layers=(2, 3), queries=30)
small_masks(model, 512)
model.backbone.fpn_dim = 128  # as in the nano pre-training configs
model.denoising.number = 20
optimizer.lr = 5e-4
train.update(output_dir="output/quickstart_mask_dino", clip_grad_norm=0.1)
