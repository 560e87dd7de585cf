"""Mask R-CNN over timm's ConvNeXt-A on generated scenes."""

from ..common.models.timm import fpn
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone = fpn("convnext_atto", out_channels=128, level_norms=True)
train.output_dir = "output/quickstart_convnext"
