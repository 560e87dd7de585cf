"""ImageNet-1K, $DETECTRON2_DATASETS/imagenet/{train,val}, a folder for each of the 1000 synsets."""

import os

from .classification import dataloader, dataset

for split in ("train", "val"):
    dataset[split].update(
        name=f"imagenet_{split}",
        images=os.path.join(os.environ.get("DETECTRON2_DATASETS", "datasets"), "imagenet", split),
        verify_images="none",  # a million images: what is broken is met, named and replaced on the way
    )
dataset.update(num_classes=1000)
