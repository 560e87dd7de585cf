"""Keypoint R-CNN: the ends of every shape on generated scenes."""

from ..common.models.keypoints import keypoints
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

keypoints(model, dim=128, convs=4)
model.roi_heads.keypoint_pooler.sampling_ratio = 1
dataset.update(num_keypoints=4, keypoint_flip=None)
dataset.train.update(name="quickstart_keypoints_train", task="keypoints")
dataset.val.update(name="quickstart_keypoints_val", task="keypoints")
for loader in (dataloader.train, dataloader.val_loss):
    loader.mapper.update(use_keypoint=True, keypoint_flip="${dataset.keypoint_flip}")
dataloader.train.mapper.update(use_instance_mask=False, recompute_boxes=False)
train.update(output_dir="output/quickstart_keypoint_rcnn", best_metric="ema/keypoints/AP")
