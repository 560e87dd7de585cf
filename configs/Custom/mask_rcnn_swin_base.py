"""Instance segmentation on your own COCO json with Swin-B under an FPN; start from a pre-trained file if you
can (train.init_checkpoint=FILE): of FastMIM, of timm, or of ``python -m pretrain``."""

from ..common.models.timm import fpn, use_pyramid
from .mask_rcnn_fast_itpn_tiny import dataloader, dataset, lr_multiplier, model, optimizer, train

use_pyramid(model, fpn("swin_base_patch4_window7_224", level_norms=True))
model.backbone.bottom_up.update(drop_path=0.2, checkpointing=True)
optimizer.lr = 1e-4
optimizer.params.layer_decay = 0.95
train.output_dir = "output/custom_mask_rcnn_swin_base"
