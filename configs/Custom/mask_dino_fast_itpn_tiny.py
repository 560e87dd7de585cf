"""Mask DINO on your own COCO json with Fast-iTPN-T; start from a pre-trained checkpoint if you can:
train.init_checkpoint=fast_itpn_tiny_1600e_1k.pt
"""

from ..common.data.custom import dataloader, dataset
from ..common.models.dino import mask_dino
from ..common.optim import optimizer
from ..common.schedule import cosine
from ..common.train import train

model = mask_dino("fast_itpn_tiny")
model.backbone.drop_path = 0.05
dataloader.train.total_batch_size = 8
optimizer.lr = 1e-4
optimizer.params.update(weight_decay=0.05, layer_decay=0.90)
lr_multiplier = cosine()
train.update(
    output_dir="output/custom_mask_dino_tiny",
    max_iter=10000,
    clip_grad_norm=0.01,
    eval_period=1000,
    best_metric="ema/segm/AP",
)
train.ema.update(enabled=True, decay=0.9995)
train.checkpointer.period = 1000
train.visualize.period = 1000
