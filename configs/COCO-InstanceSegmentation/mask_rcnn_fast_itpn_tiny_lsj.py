"""Mask R-CNN, Fast-iTPN-T, large-scale jitter at 1024x1024 for 100 epochs (the schedule of Detectron2's
plain-ViT detectors)."""

from ..common.data.coco_lsj import dataloader, dataset
from ..common.schedule import steps
from .mask_rcnn_fast_itpn_tiny_1x import model, optimizer, train

optimizer.lr = 1e-4
# 100 epochs * 118k / 64 = 184375 iterations; drops at 88.9 % and 96.3 %
lr_multiplier = steps(184375, [163889, 177546], warmup_iter=250)
train.update(output_dir="output/mask_rcnn_fast_itpn_tiny_lsj", max_iter=184375, eval_period=20000)
