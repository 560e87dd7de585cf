"""Masked feature modelling with the quick start's images."""

from ..Pretrain.mfm_fast_itpn_nano import model
from .pixel_mim_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model.update(visible_weight=0.0, xavier_decoder=False, target_norm="token", feature_schedule=[(0, 1.0)])
model.momentum = [(0, 0.99), (80, 0.999)]
train.output_dir = "output/quickstart_mfm"
