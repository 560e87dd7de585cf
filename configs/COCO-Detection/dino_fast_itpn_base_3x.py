"""DINO, Fast-iTPN-B, 36 epochs."""

from .dino_fast_itpn_tiny_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_base", drop_path=0.3)
train.output_dir = "output/dino_fast_itpn_base_3x"
