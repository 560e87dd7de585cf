"""Pixel reconstruction with dropped patches: iTPN-B, 224 pixels, 1600 epochs, batch 4096 (iTPN, CVPR'23).

As in the reference the position table is resampled at its own size too, and decayed.
"""

from ..common.pixel_mim import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.pos_resample = "scale_always"
optimizer.params.decayed = ["pos_embed"]
train.output_dir = "output/pixel_mim_itpn_base"
