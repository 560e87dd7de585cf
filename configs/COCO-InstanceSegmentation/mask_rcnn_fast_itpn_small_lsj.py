"""Mask R-CNN, Fast-iTPN-S, large-scale jitter, 100 epochs."""

from .mask_rcnn_fast_itpn_tiny_lsj import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_small", drop_path=0.05)
train.output_dir = "output/mask_rcnn_fast_itpn_small_lsj"
