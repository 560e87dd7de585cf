"""Panoptic FPN on generated scenes."""

from ..common.data.panoptic import dataloader
from ..common.models.panoptic import panoptic
from .mask_rcnn_fast_itpn_nano import dataset, lr_multiplier, model, optimizer, train

panoptic(model)
model.combine_stuff_area_thresh = 64  # pixels, of scenes of 128x128
dataset.num_semantic_classes = 2  # things, background
dataset.train.update(name="quickstart_panoptic_train", task="panoptic")
dataset.val.update(name="quickstart_panoptic_val", task="panoptic")
dataloader.image.update(short_sides=[112, 128, 144], test_short_side=128, max_size=160)
dataloader.train.update(total_batch_size=8, num_workers=0)
dataloader.test.num_workers = dataloader.val_loss.num_workers = 0
train.update(output_dir="output/quickstart_panoptic_fpn", best_metric="ema/panoptic_seg/PQ")
