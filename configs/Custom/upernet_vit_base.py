"""UPerNet on your own label images with a plain ViT-B."""

from ..common.data.semantic import dataloader, dataset
from ..common.models.timm import upernet_vit
from ..common.optim import optimizer
from ..common.schedule import poly
from ..common.train import train

model = upernet_vit("vit_base_patch16_224", [2, 5, 8, 11], channels=512, norm="GN")
model.backbone.net.update(drop_path=0.1, checkpointing=True)
dataloader.train.total_batch_size = 8
optimizer.lr = 2e-4
optimizer.params.layer_decay = 0.75
lr_multiplier = poly(10000, warmup_iter=500)
train.update(
    output_dir="output/custom_upernet_vit_base",
    max_iter=10000,
    clip_grad_norm=1.0,
    eval_period=1000,
    best_metric="ema/sem_seg/mIoU",
)
train.ema.update(enabled=True, decay=0.9995)
train.checkpointer.period = 1000
train.visualize.period = 1000
