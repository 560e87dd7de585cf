"""PointRend on generated scenes."""

from ..common.models.point_rend import point_rend
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

point_rend(model, dataloader, coarse_fc_dim=256, point_fc_dim=128)
train.output_dir = "output/quickstart_point_rend"
