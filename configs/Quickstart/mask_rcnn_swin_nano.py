"""Mask R-CNN over a Swin of a few channels (ours) on generated scenes."""

from ..common.models.timm import fpn, use_pyramid
from .mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

use_pyramid(
    model,
    fpn(
        "swin_tiny_patch4_window7_224",
        out_channels=128,
        level_norms=True,
        options=dict(embed_dim=48, depths=(2, 2, 2, 2), num_heads=(2, 4, 8, 16), window_size=4),
    ),
)
train.output_dir = "output/quickstart_swin"
