"""Instance segmentation on your own COCO json with a plain ViT-B under ViTDet's simple pyramid. Attention is
global: an image of 1333 x 800 pixels has 4200 tokens."""

from ..common.models.timm import simple_pyramid
from .mask_rcnn_swin_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone = simple_pyramid("vit_base_patch16_224")
model.backbone.net.update(drop_path=0.1, checkpointing=True)
optimizer.params.layer_decay = 0.70
train.output_dir = "output/custom_mask_rcnn_vit_base"
