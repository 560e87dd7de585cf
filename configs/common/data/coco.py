"""COCO 2017, multi-scale training of the reference detectors; data under $DETECTRON2_DATASETS/coco."""

from detectron2.config import LazyCall as L

from itpn_d2.data import multiscale_crop_augmentations, register_builtin

from .custom import dataloader

dataset = dict(
    train=L(register_builtin)(name="coco_2017_train", skip_bad_records=False),
    val=L(register_builtin)(name="coco_2017_val", skip_bad_records=False),
    num_classes=80,
    class_names=None,
)
dataloader.train.mapper.augmentations = L(multiscale_crop_augmentations)()
dataloader.train.mapper.recompute_boxes = False
dataloader.train.update(total_batch_size=64, reference_batch=64, num_workers=4)
dataloader.test.num_workers = 4
