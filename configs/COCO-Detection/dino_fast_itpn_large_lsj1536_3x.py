"""DINO, Fast-iTPN-L, 36 epochs of large-scale jitter at 1536 pixels: the .8 of EVA-02-L's
24 blocks, spread over 44, and its drop path."""

from .dino_fast_itpn_tiny_lsj1536_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_large", drop_path=0.4)
optimizer.params.layer_decay = 0.8 ** (25 / 45)
train.output_dir = "output/dino_fast_itpn_large_lsj1536_3x"
