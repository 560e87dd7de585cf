"""Mask DINO for panoptic segmentation, Fast-iTPN-T, 50 epochs: the recipe of its instances. Boxes of stuff
are learnt too, and boxes start from the cells, not from masks, as in the authors' recipe."""

from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig

from itpn_d2.data import lsj_augmentations

from ..common.data.coco_panoptic import dataloader, dataset
from ..common.models.dino import as_mask_dino, mask_dino

lr_multiplier, optimizer, train = LazyConfig.load_rel(
    "../COCO-InstanceSegmentation/mask_dino_fast_itpn_tiny_50ep.py", ("lr_multiplier", "optimizer", "train")
)
model = as_mask_dino(mask_dino("fast_itpn_tiny", task="panoptic"))
model.backbone.drop_path = 0.1
dataloader.train.mapper.augmentations = L(lsj_augmentations)(size=1024, min_scale=0.1, max_scale=2.0)
dataloader.train.update(total_batch_size=16, reference_batch=16)
dataloader.image.update(test_short_side=800, max_size=1333)
train.update(output_dir="output/panoptic_mask_dino_fast_itpn_tiny_50ep", best_metric="panoptic_seg/PQ")
