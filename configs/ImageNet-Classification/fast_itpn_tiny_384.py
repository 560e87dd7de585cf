"""Fast-iTPN-T at 384 pixels, from a pre-training or a classifier of 224: train.init_checkpoint=FILE."""

from .fast_itpn_tiny_224 import dataloader, dataset, lr_multiplier, model, optimizer, set_image_size, train

set_image_size(model, dataloader, 384)
train.output_dir = "output/fast_itpn_tiny_384"
