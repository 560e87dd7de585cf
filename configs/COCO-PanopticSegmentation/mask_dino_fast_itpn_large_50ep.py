"""Mask DINO for panoptic segmentation, Fast-iTPN-L, 50 epochs."""

from .mask_dino_fast_itpn_tiny_50ep import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_large", drop_path=0.4)
optimizer.params.layer_decay = 0.95
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/panoptic_mask_dino_fast_itpn_large_50ep"
