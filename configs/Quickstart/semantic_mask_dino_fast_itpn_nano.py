"""Mask DINO for the class of every pixel of generated scenes, background included; cut down to what a CPU
trains (ours, not the paper's)."""

from ..common.data.semantic import dataloader
from .mask_dino_fast_itpn_nano import dataset, lr_multiplier, model, optimizer, train

model.task = "semantic"
model.num_queries = 20
dataset.train.update(name="quickstart_semantic_train", task="semantic")
dataset.val.update(name="quickstart_semantic_val", task="semantic")
dataloader.image.update(short_sides=[112, 192], crop=[128, 128], test_short_side=128, max_size=256)
dataloader.train.mapper.augmentations.update(max_size=512, category_max_area=1.0)  # it is mostly background
dataloader.train.update(total_batch_size=8, num_workers=0)
dataloader.test.num_workers = dataloader.val_loss.num_workers = 0
train.update(output_dir="output/quickstart_semantic_mask_dino", best_metric="ema/sem_seg/mIoU")
