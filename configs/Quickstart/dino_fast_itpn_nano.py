"""DINO on generated scenes, cut down to what a CPU trains: 30 queries, 2 + 3 layers of 96 channels (ours, not
the paper's)."""

from ..common.models.dino import boxes_only, dino
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model = dino("fast_itpn_nano", dim=96, heads=6, hidden=256, layers=(2, 3), queries=30)
model.backbone.fpn_dim = 128  # as in the nano pre-training configs
model.denoising.number = 20
model.test_topk_per_image = 100
boxes_only(dataloader)
optimizer.lr = 5e-4
optimizer.params.weight_decay = 1e-4
train.update(output_dir="output/quickstart_dino", clip_grad_norm=0.1, best_metric="ema/bbox/AP")
