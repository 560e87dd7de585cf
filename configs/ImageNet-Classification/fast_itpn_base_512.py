"""Fast-iTPN-B at 512 pixels, from a classifier of 224 or of ImageNet-21K: train.init_checkpoint=FILE."""

from .fast_itpn_base_224 import dataloader, dataset, lr_multiplier, model, optimizer, set_image_size, train

set_image_size(model, dataloader, 512)
model.network.checkpointing = ("stage1", "stage2", "stage3")
train.output_dir = "output/fast_itpn_base_512"
