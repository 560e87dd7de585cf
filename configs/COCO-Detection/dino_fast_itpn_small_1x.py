"""DINO, Fast-iTPN-S, 12 epochs."""

from .dino_fast_itpn_tiny_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_small", drop_path=0.05)
train.output_dir = "output/dino_fast_itpn_small_1x"
