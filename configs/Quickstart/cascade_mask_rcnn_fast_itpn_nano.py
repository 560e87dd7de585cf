"""Cascade Mask R-CNN on generated scenes."""

from ..common.models.cascade import cascade
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

cascade(model)
train.output_dir = "output/quickstart_cascade_mask_rcnn"
