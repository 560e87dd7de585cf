"""Cascade Mask R-CNN, iTPN-B (pixel pre-training), 36 epochs (lr 1e-4, drop path .2).

The reference's figure calls this schedule 1x, its table and config 3x: 36 epochs.
"""

from ..common.models.cascade import cascade
from .mask_rcnn_itpn_base_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

cascade(model)
model.backbone.drop_path = 0.2
optimizer.lr = 1e-4
train.output_dir = "output/cascade_mask_rcnn_itpn_base_3x"
