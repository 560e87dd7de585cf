"""UPerNet, Fast-iTPN-T, 160k iterations on ADE20K: the recipe of the reference's iTPN segmentors (batch 16,
crops of 512, lr 3e-5, poly, windows of 512 every 341 pixels at test time).

The reference has iTPN only. For Fast-iTPN drop path and layer decay are ours, as is that every level carries
the trunk's map as well.
"""

from ..common.data.ade20k import dataloader, dataset
from ..common.models.segmentor import upernet
from ..common.optim import optimizer
from ..common.schedule import poly
from ..common.train import train

model = upernet("fast_itpn_tiny")
model.backbone.drop_path = 0.1
optimizer.lr = 3e-5
optimizer.params.layer_decay = 0.95
lr_multiplier = poly(160000, warmup_iter=1500)
train.update(
    output_dir="output/upernet_fast_itpn_tiny_160k",
    max_iter=160000,
    eval_period=16000,
    checkpointer=dict(period=16000, max_to_keep=3),
    best_metric="sem_seg/mIoU",
)
