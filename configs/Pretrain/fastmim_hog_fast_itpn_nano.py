"""FastMIM with HOG targets, small enough for a CPU; the nano trunk and these settings are ours."""

from .fastmim_hog_fast_itpn_base import model
from .pixel_mim_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model.encoder.backbone.update(name="fast_itpn_nano", fpn_dim=128)
model.decoder_dim = 128
model.decoder_heads = 4
train.output_dir = "output/fastmim_hog_nano"
