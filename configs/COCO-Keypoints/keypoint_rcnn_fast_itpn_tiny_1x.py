"""Keypoint R-CNN, Fast-iTPN-T, 12 epochs of the images with people (ours; proposals as in Detectron2)."""

from detectron2.config import LazyConfig

from ..common.data.coco_keypoints import dataloader, dataset
from ..common.models.keypoints import keypoints
from ..common.schedule import steps

model, optimizer, train = LazyConfig.load_rel(
    "../COCO-InstanceSegmentation/mask_rcnn_fast_itpn_tiny_1x.py", ("model", "optimizer", "train")
)
keypoints(model)
model.proposal_generator.post_nms_topk = (1500, 1000)
# 12 epochs of about 57000 images with keypoints, by 64; drops after epochs 9 and 11
lr_multiplier = steps(10687, [8015, 9796], warmup_iter=500)
train.update(output_dir="output/keypoint_rcnn_fast_itpn_tiny_1x", max_iter=10687, eval_period=10687)
