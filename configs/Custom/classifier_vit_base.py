"""A classifier of your own images with ViT-B; start from a pre-trained file: train.init_checkpoint=FILE."""

from ..common.data.classification import dataloader, dataset
from ..common.models.timm import classifier_of_timm
from ..common.optim import optimizer
from ..common.schedule import cosine
from ..common.train import train

model = classifier_of_timm(
    "vit_base_patch16_224", drop_path=0.1, head_std=2e-5, options=dict(global_pool="avg")
)
dataloader.train.update(total_batch_size=64, num_workers=2)
# large photographs are decoded no smaller
dataloader.train.mapper.min_side = dataloader.test.mapper.min_side = 512
dataloader.test.num_workers = 2
optimizer.lr = 5e-4
optimizer.params.layer_decay = 0.70
lr_multiplier = cosine()
train.update(
    output_dir="output/custom_classifier_vit_base",
    max_iter=5000,
    clip_grad_norm=1.0,
    eval_period=500,
    best_metric="ema/classification/top1",
)
train.ema.update(enabled=True, decay=0.9995)
train.checkpointer.period = 1000
train.visualize.period = 1000
