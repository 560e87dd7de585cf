"""Mask DINO for instances, Fast-iTPN-S, 50 epochs."""

from .mask_dino_fast_itpn_tiny_50ep import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_small", drop_path=0.1)
train.output_dir = "output/mask_dino_fast_itpn_small_50ep"
