"""Mask DINO for instances, Fast-iTPN-T, 12 epochs."""

from ..common.schedule import steps
from .mask_dino_fast_itpn_tiny_50ep import dataloader, dataset, model, optimizer, train

model.backbone.drop_path = 0.05
# 12 epochs * 118k / 16 = 88500 iterations; drops at 88.9 % and 96.3 %
lr_multiplier = steps(88500, [78677, 85226], warmup_iter=1000)
train.update(output_dir="output/mask_dino_fast_itpn_tiny_1x", max_iter=88500, eval_period=88500)
