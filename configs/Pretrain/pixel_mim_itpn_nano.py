from .pixel_mim_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "itpn_nano"
train.output_dir = "output/pixel_mim_itpn_nano"
