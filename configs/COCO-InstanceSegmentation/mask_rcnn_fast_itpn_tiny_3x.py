"""Mask R-CNN, Fast-iTPN-T, 36 epochs."""

from ..common.schedule import steps
from .mask_rcnn_fast_itpn_tiny_1x import dataloader, dataset, model, optimizer, train

model.backbone.drop_path = 0.1
optimizer.lr = 1.5e-4
# 36 epochs * 117266 / 64 = 65962 iterations; drops after epochs 27 and 33
lr_multiplier = steps(65962, [49472, 60465], warmup_iter=500)
train.update(output_dir="output/mask_rcnn_fast_itpn_tiny_3x", max_iter=65962, eval_period=21987)
