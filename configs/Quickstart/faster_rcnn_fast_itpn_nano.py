"""Faster R-CNN on generated scenes."""

from ..common.models.rcnn import without_masks
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

without_masks(model, dataloader)
train.update(output_dir="output/quickstart_faster_rcnn", best_metric="ema/bbox/AP")
