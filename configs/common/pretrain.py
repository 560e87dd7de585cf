"""Run settings and optimizer of pre-training (MAE's and iTPN's recipe: AdamW .9/.95, decay .05, cosine)."""

import torch
from detectron2.config import LazyCall as L

from itpn_d2.solver import parameter_groups

from .data.pretrain import dataloader, dataset
from .schedule import warm_cosine

optimizer = L(torch.optim.AdamW)(
    params=L(parameter_groups)(model=None, lr="${..lr}", weight_decay=0.05),
    lr=2.4e-3,  # replaced where train.base_lr is given
    betas=(0.9, 0.95),
)


lr_multiplier = warm_cosine(1600, 40)
train = dict(
    output_dir="./output/pretrain",
    init_checkpoint="",
    epochs=1600,
    max_iter=None,  # follows from the epochs
    base_lr=1.5e-4,  # per 256 images; None: optimizer.lr as it stands
    progressive=None,  # [dict(epoch=0, size=128, batch=4096), dict(epoch=300, size=192), ...]
    size_divisor=16,
    device="auto",
    amp=dict(dtype="auto"),
    accumulate=1,
    clip_grad_norm=None,
    ema=dict(enabled=False, decay=0.9998),
    ddp=dict(find_unused_parameters=False),
    checkpointer=dict(epochs=20, max_to_keep=3),
    visualize=dict(epochs=20, images=8),
    knn=dict(epochs=0, train=None, test=None, image_size=None, neighbours=20),
    log_period=20,
    show_groups=False,
    keep_freed_memory=True,  # on a CPU, see itpn_d2/engine/allocator.py
    seed=42,
)
