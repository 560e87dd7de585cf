"""Mask R-CNN, iTPN-L (CLIP pre-training), 36 epochs: ours, in the schedule of the base model."""

from .mask_rcnn_itpn_large_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(layer_scale=0.1, rel_pos="decomposed", fpn_depth=1)
train.output_dir = "output/mask_rcnn_itpn_clip_large_3x"
