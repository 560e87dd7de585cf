"""Mask DINO for instances, Fast-iTPN-T, 50 epochs: its recipe (300 queries, 9 decoder layers, AdamW 1e-4,
weight decay .05, clip .01, batch 16, large-scale jitter at 1024x1024, tested at 800x1333), the rate of the
backbone by layer decay.

The warm-up is longer than there, since transformer backbones need it; layer decay and drop path are ours.
"""

from ..common.data.coco_lsj import dataloader, dataset
from ..common.models.dino import as_mask_dino, mask_dino
from ..common.optim import optimizer
from ..common.schedule import steps
from ..common.train import train

model = as_mask_dino(mask_dino("fast_itpn_tiny"))
model.backbone.drop_path = 0.1
dataloader.train.update(total_batch_size=16, reference_batch=16)
dataloader.image.update(test_short_side=800, max_size=1333)
optimizer.lr = 1e-4
optimizer.params.update(weight_decay=0.05, layer_decay=0.90)
# 50 epochs * 118k / 16 = 368750 iterations; drops at 88.9 % and 96.3 %
lr_multiplier = steps(368750, [327778, 355092], warmup_iter=1000)
train.update(
    output_dir="output/mask_dino_fast_itpn_tiny_50ep",
    max_iter=368750,
    clip_grad_norm=0.01,
    eval_period=20000,
    checkpointer=dict(period=5000, max_to_keep=3),
)
