"""Mask DINO for instances, Fast-iTPN-B, 12 epochs."""

from .mask_dino_fast_itpn_tiny_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_base", drop_path=0.05)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/mask_dino_fast_itpn_base_1x"
