"""Pixel pre-training of two minutes on close crops, half masked: for its pictures, a detector needs more."""

from ..common.schedule import warm_cosine
from .pixel_mim_fast_itpn_nano import dataloader, dataset, model, optimizer, train

model.masking.ratio = 0.5
model.xavier_decoder = True
dataloader.train.view.scale = (0.05, 0.3)
dataloader.train.total_batch_size = 16
lr_multiplier = warm_cosine(12, 1)
train.update(output_dir="output/quickstart_brief_pixel_mim", epochs=12)
train.checkpointer.epochs = train.visualize.epochs = 6
