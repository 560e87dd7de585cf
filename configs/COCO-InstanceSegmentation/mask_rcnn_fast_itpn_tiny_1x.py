"""Mask R-CNN, Fast-iTPN-T, 12 epochs: the recipe of the reference's iTPN-B detectors (AdamW, batch 64, layer
decay .90).

Drop path for tiny and small is ours: the reference publishes detectors of base and large only.
"""

from ..common.data.coco import dataloader, dataset
from ..common.models.rcnn import rcnn_fast_itpn
from ..common.optim import optimizer
from ..common.schedule import steps
from ..common.train import train

model = rcnn_fast_itpn("fast_itpn_tiny")
model.backbone.drop_path = 0.05
optimizer.lr = 2e-4
optimizer.params.layer_decay = 0.90
# 12 epochs * 117266 images with boxes / 64 = 21987 iterations; drops after epochs 9 and 11
lr_multiplier = steps(21987, [16490, 20155], warmup_iter=500)
train.update(
    output_dir="output/mask_rcnn_fast_itpn_tiny_1x",
    max_iter=21987,
    eval_period=21987,
    checkpointer=dict(period=1833, max_to_keep=3),
)
