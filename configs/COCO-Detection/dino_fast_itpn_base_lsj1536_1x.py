"""DINO, Fast-iTPN-B, 12 epochs of large-scale jitter at 1536 pixels: the .7 of EVA-02-B's
12 blocks, spread over 30."""

from .dino_fast_itpn_tiny_lsj1536_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "fast_itpn_base"
optimizer.params.layer_decay = 0.7 ** (13 / 31)
train.output_dir = "output/dino_fast_itpn_base_lsj1536_1x"
