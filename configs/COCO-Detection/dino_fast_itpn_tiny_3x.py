"""DINO, Fast-iTPN-T, 36 epochs."""

from ..common.schedule import steps
from .dino_fast_itpn_tiny_1x import dataloader, dataset, model, optimizer, train

model.backbone.drop_path = 0.1
# 36 epochs * 117266 / 16 = 263848 iterations; the drop after epoch 30
lr_multiplier = steps(263848, [219873], warmup_iter=1000)
train.update(output_dir="output/dino_fast_itpn_tiny_3x", max_iter=263848, eval_period=87949)
