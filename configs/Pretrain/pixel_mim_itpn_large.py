from .pixel_mim_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "itpn_large"
train.output_dir = "output/pixel_mim_itpn_large"
