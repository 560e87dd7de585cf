"""Instance segmentation on your own COCO json with ConvNeXt-B under an FPN."""

from .mask_rcnn_swin_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.name = "convnext_base"
train.output_dir = "output/custom_mask_rcnn_convnext_base"
