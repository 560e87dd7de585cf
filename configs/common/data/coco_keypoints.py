"""COCO 2017 people with 17 keypoints, multi-scale training; data under $DETECTRON2_DATASETS/coco."""

from detectron2.config import LazyCall as L

from itpn_d2.data import multiscale_crop_augmentations, register_builtin

from .keypoints import dataloader, dataset

dataset.update(
    train=L(register_builtin)(name="keypoints_coco_2017_train", skip_bad_records=False),
    val=L(register_builtin)(name="keypoints_coco_2017_val", skip_bad_records=False),
    num_classes=1,
    num_keypoints=17,
)
dataloader.train.mapper.augmentations = L(multiscale_crop_augmentations)()
dataloader.train.update(total_batch_size=64, reference_batch=64, num_workers=4)
dataloader.test.num_workers = 4
