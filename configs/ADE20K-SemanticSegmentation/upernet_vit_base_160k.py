"""UPerNet, ViT-B, 160k iterations on ADE20K: the recipe of FastMIM's segmentor (BEiT's: AdamW 3e-4, layer
decay .75, drop path .1, layer scale 1, batch 16, crops of 512, windows of 512 every 341 pixels at test time).

It starts from FastMIM's fine-tuned classifier: train.init_checkpoint=FILE. The blocks whose maps are taken
are those of the reference (2, 4, 10 and 12). What differs: every block there adds a table of relative
positions, which starts at zero and which timm's ViT does not have.
"""

from ..common.data.ade20k import dataloader, dataset
from ..common.models.timm import upernet_vit
from ..common.optim import optimizer
from ..common.schedule import poly
from ..common.train import train

model = upernet_vit("vit_base_patch16_224", [1, 3, 9, 11], options=dict(init_values=1.0))
model.backbone.net.update(img_size=512, drop_path=0.1)
optimizer.lr = 3e-4
optimizer.params.layer_decay = 0.75
lr_multiplier = poly(160000, warmup_iter=1500)
train.update(
    output_dir="output/upernet_vit_base_160k",
    max_iter=160000,
    eval_period=16000,
    checkpointer=dict(period=16000, max_to_keep=3),
    best_metric="sem_seg/mIoU",
)
