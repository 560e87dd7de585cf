"""Panoptic FPN, Fast-iTPN-T, 12 epochs by the recipe of the Mask R-CNN (ours)."""

from detectron2.config import LazyConfig

from ..common.data.coco_panoptic import dataloader, dataset
from ..common.models.panoptic import panoptic

lr_multiplier, model, optimizer, train = LazyConfig.load_rel(
    "../COCO-InstanceSegmentation/mask_rcnn_fast_itpn_tiny_1x.py",
    ("lr_multiplier", "model", "optimizer", "train"),
)
panoptic(model)
train.output_dir = "output/panoptic_fpn_fast_itpn_tiny_1x"
