"""PointRend on your own COCO json, nano.

python train_net.py --config-file configs/Custom/point_rend_fast_itpn_nano.py \
    dataset.train.json=... dataset.train.images=... dataset.val.json=... dataset.val.images=...
"""

from ..common.models.point_rend import point_rend
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

point_rend(model, dataloader, coarse_fc_dim=256, point_fc_dim=128)
train.output_dir = "output/custom_point_rend_nano"
