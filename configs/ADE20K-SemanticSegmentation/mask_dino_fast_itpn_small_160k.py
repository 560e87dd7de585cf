"""Mask DINO on ADE20K, Fast-iTPN-S, 160k iterations."""

from .mask_dino_fast_itpn_tiny_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_small", drop_path=0.1)
train.output_dir = "output/mask_dino_fast_itpn_small_160k"
