"""Your own COCO json with keypoints: set dataset.{train,val}.{json,images}; names come from it."""

from .custom import dataloader, dataset

dataset.update(num_keypoints=None, keypoint_flip=None)
for loader in (dataloader.train, dataloader.val_loss):
    loader.mapper.update(use_keypoint=True, keypoint_flip="${dataset.keypoint_flip}")
dataloader.train.mapper.update(use_instance_mask=False, recompute_boxes=False)
dataloader.train.min_keypoints = 1
