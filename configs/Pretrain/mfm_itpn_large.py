from .mfm_fast_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "itpn_large"
train.output_dir = "output/mfm_itpn_large"
