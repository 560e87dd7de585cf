"""Fast-iTPN-S at 384 pixels."""

from .fast_itpn_small_224 import dataloader, dataset, lr_multiplier, model, optimizer, set_image_size, train

set_image_size(model, dataloader, 384)
train.output_dir = "output/fast_itpn_small_384"
