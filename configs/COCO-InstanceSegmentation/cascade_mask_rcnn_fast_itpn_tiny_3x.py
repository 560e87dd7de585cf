"""Cascade Mask R-CNN, Fast-iTPN-T, 36 epochs: the recipe of the reference's iTPN-B (lr 1e-4); drop path of
tiny and small is ours."""

from ..common.models.cascade import cascade
from .mask_rcnn_fast_itpn_tiny_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

cascade(model)
optimizer.lr = 1e-4
train.output_dir = "output/cascade_mask_rcnn_fast_itpn_tiny_3x"
