"""UPerNet on your own label images with Swin-B."""

from ..common.models.timm import upernet_stages
from .upernet_vit_base import dataloader, dataset, lr_multiplier, optimizer, train

model = upernet_stages("swin_base_patch4_window7_224", norm="GN", level_norms=True)
model.backbone.update(drop_path=0.2, checkpointing=True)
optimizer.lr = 1e-4
optimizer.params.layer_decay = 0.95
train.output_dir = "output/custom_upernet_swin_base"
