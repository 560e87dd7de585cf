"""DINO on your own COCO json with Fast-iTPN-B."""

from .dino_fast_itpn_tiny import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_base", drop_path=0.05)
train.output_dir = "output/custom_dino_base"
