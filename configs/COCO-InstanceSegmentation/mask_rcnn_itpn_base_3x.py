"""Mask R-CNN, iTPN-B (pixel pre-training), 36 epochs.

Corrected: the reference's config of this name runs 12 epochs (drops after 9 and 11); here they are 36 (27 and
33), as its table says. The other corrections are those of ``mask_rcnn_itpn_base_1x``.
"""

from .mask_rcnn_fast_itpn_tiny_3x import dataset, lr_multiplier, train
from .mask_rcnn_itpn_base_1x import dataloader, model, optimizer

model.backbone.drop_path = 0.3
optimizer.lr = 1.5e-4
train.output_dir = "output/mask_rcnn_itpn_base_3x"
