"""Mask R-CNN, Fast-iTPN-L, large-scale jitter, 100 epochs."""

from .mask_rcnn_fast_itpn_tiny_lsj import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_large", drop_path=0.4)
optimizer.params.layer_decay = 0.95
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
train.output_dir = "output/mask_rcnn_fast_itpn_large_lsj"
