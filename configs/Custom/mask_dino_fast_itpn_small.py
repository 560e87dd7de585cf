"""Mask DINO on your own COCO json with Fast-iTPN-S."""

from .mask_dino_fast_itpn_tiny import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_small", drop_path=0.05)
train.output_dir = "output/custom_mask_dino_small"
