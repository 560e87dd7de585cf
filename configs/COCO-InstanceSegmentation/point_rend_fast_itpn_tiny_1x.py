"""PointRend, Fast-iTPN-T, 12 epochs by the recipe of the Mask R-CNN (ours)."""

from ..common.models.point_rend import point_rend
from .mask_rcnn_fast_itpn_tiny_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

point_rend(model, dataloader)
train.output_dir = "output/point_rend_fast_itpn_tiny_1x"
