"""Mask R-CNN, ConvNeXt-B: the recipe of the Swin-B one; ours, FastMIM has no such network."""

from .mask_rcnn_swin_base_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.name = "convnext_base"
train.output_dir = "output/mask_rcnn_convnext_base_3x"
