"""RetinaNet on generated scenes."""

from ..common.models.dense import anchor_sizes
from ..Custom.retinanet_fast_itpn_nano import model
from .faster_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model.anchor_generator.sizes = anchor_sizes(16)  # objects of 15-50 pixels
train.output_dir = "output/quickstart_retinanet"
