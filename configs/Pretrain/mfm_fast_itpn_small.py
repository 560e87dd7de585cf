from .mfm_fast_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "fast_itpn_small"
train.output_dir = "output/mfm_fast_itpn_small"
