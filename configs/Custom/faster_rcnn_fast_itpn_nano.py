"""Boxes only: the nano Mask R-CNN without its mask head."""

from ..common.models.rcnn import without_masks
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

without_masks(model, dataloader)
train.update(output_dir="output/custom_faster_rcnn_nano", best_metric="ema/bbox/AP")
