"""Run settings and optimizer of pre-training (MAE's and iTPN's recipe: AdamW .9/.95, decay .05, cosine)."""

import torch
from detectron2.config import LazyCall as L

from itpn_d2.engine.schema import Pretraining, defaults
from itpn_d2.solver import parameter_groups

from .data.pretrain import dataloader, dataset
from .schedule import warm_cosine

optimizer = L(torch.optim.AdamW)(
    params=L(parameter_groups)(model=None, lr="${..lr}", weight_decay=0.05),
    lr=2.4e-3,  # replaced where train.base_lr is given
    betas=(0.9, 0.95),
)


lr_multiplier = warm_cosine(1600, 40)
train = defaults(Pretraining)
