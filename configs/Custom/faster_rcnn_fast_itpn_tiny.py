"""Boxes only on your own COCO json with Fast-iTPN-T."""

from ..common.models.rcnn import without_masks
from .mask_rcnn_fast_itpn_tiny import dataloader, dataset, lr_multiplier, model, optimizer, train

without_masks(model, dataloader)
train.update(output_dir="output/custom_faster_rcnn_tiny", best_metric="ema/bbox/AP")
