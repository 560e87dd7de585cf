"""mmpretrain's itpn-pixel_hivit-base-p16_8xb512-amp-coslr-800e: HiViT's depths (4, 4, 24), a decoder of 6
blocks, 800 epochs. A detector takes it with model.backbone.depths=[4,4,24].

Ours: the position table learns, where it is frozen there.
"""

from ...common.pixel_mim import dataloader, dataset, model, optimizer, train
from ...common.schedule import warm_cosine

model.backbone.update(depths=(4, 4, 24), fpn_depth=2, pos_resample="scale_always")
model.decoder_depth = 6
optimizer.params.undecayed = ["fill.token"]
lr_multiplier = warm_cosine(800, 40)
train.update(output_dir="output/mmpretrain_pixel_mim_itpn_base", epochs=800)
