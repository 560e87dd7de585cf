"""Instance segmentation on your own COCO json with Fast-iTPN-B."""

from .mask_rcnn_fast_itpn_tiny import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_base", drop_path=0.05)
optimizer.params.layer_decay = 0.90
train.output_dir = "output/custom_mask_rcnn_base"
