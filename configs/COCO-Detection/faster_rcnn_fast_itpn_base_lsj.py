"""Faster R-CNN, Fast-iTPN-B: the Mask R-CNN of the same name without masks."""

from ..common.models.rcnn import without_masks
from ..COCO-InstanceSegmentation.mask_rcnn_fast_itpn_base_lsj import dataloader, dataset, lr_multiplier, model, optimizer, train

without_masks(model, dataloader)
train.output_dir = "output/faster_rcnn_fast_itpn_base_lsj"
