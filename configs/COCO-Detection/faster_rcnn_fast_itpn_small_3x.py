"""Faster R-CNN, Fast-iTPN-S: the Mask R-CNN of the same name without masks."""

from detectron2.config import LazyConfig

from ..common.models.rcnn import without_masks

dataloader, dataset, lr_multiplier, model, optimizer, train = LazyConfig.load_rel(
    "../COCO-InstanceSegmentation/mask_rcnn_fast_itpn_small_3x.py",
    ("dataloader", "dataset", "lr_multiplier", "model", "optimizer", "train"),
)
without_masks(model, dataloader)
train.output_dir = "output/faster_rcnn_fast_itpn_small_3x"
