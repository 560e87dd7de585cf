"""Mask R-CNN, iTPN-L (CLIP pre-training), 12 epochs.

Its relative positions are decomposed and start at zero, as the reference's do (near it): not the tables of
pre-training, which rel_pos=table keeps.
"""

from .mask_rcnn_itpn_large_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(layer_scale=0.1, rel_pos="decomposed", fpn_depth=1)
train.output_dir = "output/mask_rcnn_itpn_clip_large_1x"
