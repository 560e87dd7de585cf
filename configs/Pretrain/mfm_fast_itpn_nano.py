"""Masked feature modelling, small enough for a CPU; the nano trunk and these settings are ours."""

from .mfm_fast_itpn_base import model
from .pixel_mim_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model.backbone.update(name="fast_itpn_nano", fpn_dim=128, pos_grid=(8, 8))
model.update(decoder_dim=128, decoder_depths=(1, 1, 2), decoder_heads=4)
model.momentum = [(0, 0.99), (100, 0.999)]  # a short run has no time for a slower teacher
# a short run's features shrink without these, see docs/pretraining.md
model.update(
    visible_weight=1.0, xavier_decoder=True, target_norm="image", feature_schedule=[(0, 0.0), (20, 1.0)]
)
train.output_dir = "output/mfm_nano"
