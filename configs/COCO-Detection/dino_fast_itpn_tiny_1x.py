"""DINO, Fast-iTPN-T, 12 epochs: DINO's recipe with four scales (AdamW 1e-4, weight decay 1e-4, batch 16, 900
queries, one drop of the rate), the backbone's rate by layer decay.

The warm-up is ours: transformer backbones need it. So are layer decay and drop path, which are those of the
Mask R-CNN of the same name: the authors of Fast-iTPN do not publish the ones of their detectors.
"""

from ..common.data.coco import dataloader, dataset
from ..common.models.dino import as_dino, boxes_only, dino
from ..common.optim import optimizer
from ..common.schedule import steps
from ..common.train import train

model = as_dino(dino("fast_itpn_tiny"))
model.backbone.drop_path = 0.05
boxes_only(dataloader)
dataloader.train.update(total_batch_size=16, reference_batch=16)
optimizer.lr = 1e-4
optimizer.params.update(weight_decay=1e-4, layer_decay=0.90)
# 12 epochs * 117266 images with boxes / 16 = 87949 iterations; the drop after epoch 11
lr_multiplier = steps(87949, [80620], warmup_iter=1000)
train.update(
    output_dir="output/dino_fast_itpn_tiny_1x",
    max_iter=87949,
    clip_grad_norm=0.1,
    eval_period=87949,
    checkpointer=dict(period=7329, max_to_keep=3),
)
