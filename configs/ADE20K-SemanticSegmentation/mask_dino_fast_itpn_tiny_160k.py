"""Mask DINO on ADE20K, Fast-iTPN-T, 160k iterations: its recipe (100 learnt queries, 9 decoder layers,
cross-entropy of classes, batch 16, crops of 512, AdamW 1e-4, weight decay .05, clip .01), the rate of the
backbone by layer decay.

As published for this task: learnt queries and boxes, a prediction from them before the first layer,
cross-entropy over classes and no object, votes resized. Ours: the longer warm-up, layer decay, drop path, and
four scales instead of three.
"""

from ..common.data.ade20k import dataloader, dataset
from ..common.models.dino import as_mask_dino, mask_dino
from ..common.optim import optimizer
from ..common.schedule import steps
from ..common.train import train

model = as_mask_dino(mask_dino("fast_itpn_tiny", task="semantic", queries=100))
model.backbone.drop_path = 0.1
model.resize = "scores"
dataloader.train.mapper.augmentations.update(category_max_area=1.0, max_size=2048)
optimizer.lr = 1e-4
optimizer.params.update(weight_decay=0.05, layer_decay=0.90)
lr_multiplier = steps(160000, [135000, 150000], warmup_iter=1000)
train.update(
    output_dir="output/mask_dino_fast_itpn_tiny_160k",
    max_iter=160000,
    clip_grad_norm=0.01,
    eval_period=16000,
    checkpointer=dict(period=5000, max_to_keep=3),
    best_metric="sem_seg/mIoU",
)
