"""Mask R-CNN over timm's ConvNeXt-A on generated scenes."""

from ..common.models.timm import fpn, use_pyramid
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

use_pyramid(model, fpn("convnext_atto", out_channels=128, level_norms=True))
train.output_dir = "output/quickstart_convnext"
