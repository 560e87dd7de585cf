"""Boxes only on your own COCO json with Fast-iTPN-B."""

from ..common.models.rcnn import without_masks
from .mask_rcnn_fast_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

without_masks(model, dataloader)
train.update(output_dir="output/custom_faster_rcnn_base", best_metric="ema/bbox/AP")
