"""AdamW with layer-wise decay (the references': betas .9/.999, weight decay .05)."""

import torch
from detectron2.config import LazyCall as L

from itpn_d2.solver import parameter_groups

optimizer = L(torch.optim.AdamW)(
    params=L(parameter_groups)(model=None, lr="${..lr}", weight_decay=0.05, layer_decay=1.0),
    lr=2e-4,
    betas=(0.9, 0.999),
)
