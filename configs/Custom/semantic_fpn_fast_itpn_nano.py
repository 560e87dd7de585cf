"""Semantic FPN on your own label images, nano; for the data see upernet_fast_itpn_nano.py."""

from ..common.models.segmentor import semantic_fpn
from .upernet_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model = semantic_fpn("fast_itpn_nano", fpn_dim=128, window=256, stride=171)
model.sem_seg_head.conv_dims = 64
train.output_dir = "output/custom_semantic_fpn_nano"
