"""DINO, Fast-iTPN-T, 12 epochs of large-scale jitter at 1024 pixels: detrex's recipe for DINO over EVA-02-B
(batch 16, epochs of 7500 iterations, one drop of the rate after 11, AdamW 1e-4, weight decay 1e-4, clip .1).

Its layer decay is .7 for each of 12 blocks: .7 ** (13 / 15) for each of the 14 of Fast-iTPN-T starts from the
same rate at the patch embedding. The warm-up is ours.
"""

from ..common.data.coco_lsj import dataloader, dataset, set_jitter_size
from ..common.models.dino import as_detrex, dino
from ..common.optim import optimizer
from ..common.schedule import steps
from ..common.train import train

model = as_detrex(dino("fast_itpn_tiny"))
model.backbone.drop_path = 0.1
dataloader.train.update(total_batch_size=16, reference_batch=16)
dataloader.train.mapper.keep_masks = False  # boxes are recomputed from them
dataloader.val_loss.mapper.use_instance_mask = False
optimizer.lr = 1e-4
optimizer.params.update(weight_decay=1e-4, layer_decay=0.7 ** (13 / 15))
lr_multiplier = steps(90000, [82500], warmup_iter=1000)
train.update(
    output_dir="output/dino_fast_itpn_tiny_lsj1024_1x",
    max_iter=90000,
    clip_grad_norm=0.1,
    eval_period=90000,
    checkpointer=dict(period=7500, max_to_keep=3),
)
