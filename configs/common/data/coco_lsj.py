"""COCO 2017 with large-scale jitter: scale .1-2, random crop and padding to 1024x1024; tested at 1024."""

from detectron2.config import LazyCall as L

from itpn_d2.data import lsj_augmentations

from .coco import dataloader, dataset


def set_jitter_size(dataloader, size):
    """Crops of ``size`` pixels, and test images whose long side they are; in place."""
    dataloader.train.mapper.augmentations.size = size
    dataloader.image.update(test_short_side=size, max_size=size)


dataloader.train.mapper.augmentations = L(lsj_augmentations)(size=1024, min_scale=0.1, max_scale=2.0)
dataloader.train.mapper.update(instance_mask_format="bitmask", recompute_boxes=True)
set_jitter_size(dataloader, 1024)
