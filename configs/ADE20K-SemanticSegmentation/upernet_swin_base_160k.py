"""UPerNet, Swin-B, 160k iterations on ADE20K: Swin's own recipe (AdamW 6e-5, weight decay .01, drop path .3,
batch 16).

FastMIM reports no such segmentor.
"""

from ..common.models.timm import upernet_stages
from .upernet_vit_base_160k import dataloader, dataset, lr_multiplier, optimizer, train

model = upernet_stages("swin_base_patch4_window7_224", level_norms=True)
model.backbone.drop_path = 0.3
optimizer.lr = 6e-5
optimizer.params.update(layer_decay=1.0, weight_decay=0.01)
train.output_dir = "output/upernet_swin_base_160k"
