"""DINO, Fast-iTPN-T, 36 epochs of large-scale jitter at 1024 pixels; the rate drops after 30."""

from ..common.schedule import steps
from .dino_fast_itpn_tiny_lsj1024_1x import dataloader, dataset, model, optimizer, set_jitter_size, train

lr_multiplier = steps(270000, [225000], warmup_iter=1000)
train.update(output_dir="output/dino_fast_itpn_tiny_lsj1024_3x", max_iter=270000)
