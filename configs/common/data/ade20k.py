"""ADE20K, 150 classes: $DETECTRON2_DATASETS/ADEChallengeData2016 as its authors distribute it."""

from detectron2.config import LazyCall as L

from itpn_d2.data import register_ade20k

from .semantic import dataloader

dataset = dict(
    train=L(register_ade20k)(name="ade20k_train", split="training"),
    val=L(register_ade20k)(name="ade20k_val", split="validation"),
    num_classes=150,
    class_names=None,
)
dataloader.train.update(reference_batch=16, num_workers=4)
dataloader.test.num_workers = 4
