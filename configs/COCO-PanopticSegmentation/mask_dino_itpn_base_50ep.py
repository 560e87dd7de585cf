"""Mask DINO for panoptic segmentation, iTPN-B (pixel pre-training), 50 epochs."""

from .mask_dino_fast_itpn_tiny_50ep import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_base", drop_path=0.3, fpn_depth=2, norm_eps=1e-6)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/panoptic_mask_dino_itpn_base_50ep"
