"""Semantic FPN, 80k iterations on ADE20K, Fast-iTPN-S."""

from .semantic_fpn_fast_itpn_tiny_80k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_small", drop_path=0.1)
train.output_dir = "output/semantic_fpn_fast_itpn_small_80k"
