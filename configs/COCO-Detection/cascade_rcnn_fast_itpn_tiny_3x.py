"""Cascade R-CNN, Fast-iTPN-T: the Cascade Mask R-CNN of the same name without masks."""

from detectron2.config import LazyConfig

from ..common.models.rcnn import without_masks

dataloader, dataset, lr_multiplier, model, optimizer, train = LazyConfig.load_rel(
    "../COCO-InstanceSegmentation/cascade_mask_rcnn_fast_itpn_tiny_3x.py",
    ("dataloader", "dataset", "lr_multiplier", "model", "optimizer", "train"),
)
without_masks(model, dataloader)
train.output_dir = "output/cascade_rcnn_fast_itpn_tiny_3x"
