from ..common.pixel_mim import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "fast_itpn_tiny"
train.output_dir = "output/pixel_mim_fast_itpn_tiny"
