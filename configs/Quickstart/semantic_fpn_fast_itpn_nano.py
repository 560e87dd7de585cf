"""Semantic FPN on generated scenes."""

from ..Custom.semantic_fpn_fast_itpn_nano import model
from .upernet_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model.update(window=128, stride=96)
train.output_dir = "output/quickstart_semantic_fpn"
