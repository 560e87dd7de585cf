"""COCO 2017 panoptic, $DETECTRON2_DATASETS/coco: instances are segments of its PNGs, not the polygons."""

import os

from detectron2.config import LazyCall as L

from itpn_d2.data import multiscale_crop_augmentations

from .panoptic import dataloader, dataset

for split in ("train", "val"):
    coco = os.path.join(os.environ.get("DETECTRON2_DATASETS", "datasets"), "coco")
    dataset[split].update(
        name=f"coco_panoptic_{split}",
        json=f"{coco}/annotations/panoptic_{split}2017.json",
        images=f"{coco}/{split}2017",
        labels=f"{coco}/panoptic_{split}2017",
        verify_images="none",
    )
dataset.update(num_classes=80, num_semantic_classes=54)
dataloader.train.mapper.augmentations = L(multiscale_crop_augmentations)()
dataloader.train.update(total_batch_size=64, reference_batch=64, num_workers=4)
dataloader.test.num_workers = 4
