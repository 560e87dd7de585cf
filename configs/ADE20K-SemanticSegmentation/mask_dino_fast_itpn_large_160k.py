"""Mask DINO on ADE20K, Fast-iTPN-L, 160k iterations."""

from .mask_dino_fast_itpn_tiny_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_large", drop_path=0.2)
optimizer.params.layer_decay = 0.95
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/mask_dino_fast_itpn_large_160k"
