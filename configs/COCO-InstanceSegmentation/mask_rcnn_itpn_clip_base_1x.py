"""Mask R-CNN, iTPN-B (CLIP pre-training), 12 epochs: the pixel form's recipe with layer scale.

As in the reference's 36 epochs the relative position tables of pre-training stay behind; rel_pos=table keeps
them, at the price of a bias for every pair of tokens. The pyramid has one block after each addition, as the
CLIP checkpoints have.
"""

from .mask_rcnn_itpn_base_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(layer_scale=0.1, rel_pos="none", fpn_depth=1)
train.output_dir = "output/mask_rcnn_itpn_clip_base_1x"
