"""mmpretrain's itpn-pixel_hivit-large-p16_8xb512-amp-coslr-800e."""

from .pixel_mim_itpn_base_8xb512_800e import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_large", depths=(4, 4, 40))
train.output_dir = "output/mmpretrain_pixel_mim_itpn_large"
