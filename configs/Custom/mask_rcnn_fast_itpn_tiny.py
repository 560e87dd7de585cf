"""Instance segmentation on your own COCO json with Fast-iTPN-T; start from a pre-trained checkpoint if you
can: train.init_checkpoint=fast_itpn_tiny_1600e_1k.pt
"""

from ..common.data.custom import dataloader, dataset
from ..common.models.rcnn import rcnn_fast_itpn
from ..common.optim import optimizer
from ..common.schedule import cosine
from ..common.train import train

model = rcnn_fast_itpn("fast_itpn_tiny")
model.backbone.drop_path = 0.05
model.roi_heads.box_head.conv_norm = "GN"  # no statistics to gather over small batches
optimizer.lr = 2e-4
optimizer.params.layer_decay = 0.90
lr_multiplier = cosine()
train.update(
    output_dir="output/custom_mask_rcnn_tiny",
    max_iter=5000,
    clip_grad_norm=1.0,
    eval_period=1000,
    best_metric="ema/segm/AP",
)
train.ema.update(enabled=True, decay=0.9995)
train.checkpointer.period = 1000
train.visualize.period = 1000
