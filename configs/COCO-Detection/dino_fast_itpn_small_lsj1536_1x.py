"""DINO, Fast-iTPN-S, 12 epochs of large-scale jitter at 1536 pixels; layer decay as of Fast-iTPN-T."""

from .dino_fast_itpn_tiny_lsj1536_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "fast_itpn_small"
optimizer.params.layer_decay = 0.7 ** (13 / 25)
train.output_dir = "output/dino_fast_itpn_small_lsj1536_1x"
