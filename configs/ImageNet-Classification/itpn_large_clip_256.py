"""iTPN-L/14 of the reference: pre-trained on CLIP-L/14's features, 50 epochs at 256 pixels."""

from .itpn_large_clip_224 import dataloader, dataset, lr_multiplier, model, optimizer, set_image_size, train

set_image_size(model, dataloader, 256)
train.output_dir = "output/itpn_large_clip_256"
