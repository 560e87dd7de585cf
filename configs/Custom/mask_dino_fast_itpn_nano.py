"""Mask DINO on your own COCO json, cut down for CPUs: 50 queries, 2 + 3 layers of 128 channels, 1024 points
of a mask (this size and the nano trunk are ours, not the papers').
"""

from ..common.models.dino import mask_dino, small_masks
from .mask_dino_fast_itpn_tiny import dataloader, dataset, lr_multiplier, optimizer, train

model = small_masks(mask_dino("fast_itpn_nano", dim=128, hidden=512, layers=(2, 3), queries=50))
model.backbone.fpn_dim = 128
model.denoising.number = 25
dataloader.image.update(short_sides=[256, 288, 320, 352, 384], test_short_side=320, max_size=640)
optimizer.lr = 4e-4
optimizer.params.layer_decay = 1.0
train.update(
    output_dir="output/custom_mask_dino_nano", init_checkpoint="auto", max_iter=4000, clip_grad_norm=0.1
)
train.ema.decay = 0.999
