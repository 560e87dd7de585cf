"""FCOS, Fast-iTPN-T, 12 epochs by the recipe of the Mask R-CNN; ours, the reference has
no one-stage detector."""

from ..common.models.dense import fcos
from .faster_rcnn_fast_itpn_tiny_1x import dataloader, dataset, lr_multiplier, optimizer, train

model = fcos("fast_itpn_tiny")
model.backbone.drop_path = 0.05
train.output_dir = "output/fcos_fast_itpn_tiny_1x"
