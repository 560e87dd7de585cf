"""Fast-iTPN-S at 224 pixels, 100 epochs."""

from .fast_itpn_tiny_224 import dataloader, dataset, lr_multiplier, model, optimizer, set_image_size, train

model.network.name = "fast_itpn_small"
optimizer.params.layer_decay = 0.90
train.output_dir = "output/fast_itpn_small_224"
