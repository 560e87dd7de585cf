"""FCOS on generated scenes."""

from ..Custom.fcos_fast_itpn_nano import model
from .faster_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

train.output_dir = "output/quickstart_fcos"
