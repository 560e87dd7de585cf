"""Mask DINO for all segments of generated scenes, background included; cut down to what a CPU trains (ours,
not the paper's)."""

from ..common.data.panoptic import dataloader
from ..common.models.dino import boxes_of_things
from .mask_dino_fast_itpn_nano import dataset, lr_multiplier, model, optimizer, train

model.task = "panoptic"
model.num_semantic_classes = "${dataset.num_semantic_classes}"
boxes_of_things(model)
dataset.num_semantic_classes = 2  # things, background
dataset.train.update(name="quickstart_panoptic_train", task="panoptic")
dataset.val.update(name="quickstart_panoptic_val", task="panoptic")
dataloader.image.update(short_sides=[112, 128, 144], test_short_side=128, max_size=160)
dataloader.train.update(total_batch_size=8, num_workers=0)
dataloader.test.num_workers = dataloader.val_loss.num_workers = 0
train.update(output_dir="output/quickstart_panoptic_mask_dino", best_metric="ema/panoptic_seg/PQ")
