"""Mask R-CNN, iTPN-L (pixel pre-training), 12 epochs: layer decay and drop path of the reference's CLIP form,
which is the only large one that it has a config of.

Corrected: leaving out the merges gives the last block there 1.05 times the rate.
"""

from .mask_rcnn_itpn_base_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_large", drop_path=0.2)
optimizer.params.layer_decay = 0.95
train.output_dir = "output/mask_rcnn_itpn_large_1x"
