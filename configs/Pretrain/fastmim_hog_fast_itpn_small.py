from .fastmim_hog_fast_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.encoder.backbone.name = "fast_itpn_small"
train.output_dir = "output/fastmim_hog_fast_itpn_small"
