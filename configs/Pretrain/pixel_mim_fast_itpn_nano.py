"""Pixel reconstruction, small enough for a CPU; the nano trunk and these settings are ours."""

from ..common.pixel_mim import dataloader, dataset, model, optimizer, train
from ..common.schedule import warm_cosine

model.backbone.update(name="fast_itpn_nano", fpn_dim=128, pos_grid=(8, 8))
model.update(decoder_dim=128, decoder_depth=2, decoder_heads=4)
# short runs on few images need these, see docs/pretraining.md
model.update(visible_weight=1.0, xavier_decoder=True)
dataloader.train.view.size = 128
dataloader.train.update(total_batch_size=16, num_workers=0)
optimizer.lr = 3e-4
lr_multiplier = warm_cosine(100, 5)
train.update(output_dir="output/pixel_mim_nano", epochs=100, base_lr=None, clip_grad_norm=1.0, log_period=10)
train.checkpointer.epochs = 50
train.visualize.epochs = 25
