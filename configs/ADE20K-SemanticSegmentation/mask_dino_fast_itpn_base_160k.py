"""Mask DINO on ADE20K, Fast-iTPN-B, 160k iterations."""

from .mask_dino_fast_itpn_tiny_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_base", drop_path=0.1)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/mask_dino_fast_itpn_base_160k"
