"""Keypoint R-CNN on your own COCO json with keypoints, nano, with a slim head.

python train_net.py --config-file configs/Custom/keypoint_rcnn_fast_itpn_nano.py \
    dataset.train.json=... dataset.train.images=... dataset.val.json=... dataset.val.images=...

How far off an annotator is counts in the score: dataloader.evaluator.keypoint_sigmas=[...], one for each.
"""

from ..common.data.keypoints import dataloader, dataset
from ..common.models.keypoints import keypoints
from .mask_rcnn_fast_itpn_nano import lr_multiplier, model, optimizer, train

keypoints(model, dim=128, convs=4)
dataloader.image.update(short_sides=[256, 288, 320, 352, 384], test_short_side=320, max_size=640)
dataloader.train.total_batch_size = 8
train.update(output_dir="output/custom_keypoint_rcnn_nano", best_metric="ema/keypoints/AP")
