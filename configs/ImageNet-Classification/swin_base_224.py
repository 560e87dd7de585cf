"""Swin-B, pre-trained with FastMIM, 100 epochs at 224 pixels: its fine-tuning (1e-3 per 256 images, layer
decay .80 over 24 blocks, tables of relative positions decayed, no moving average)."""

from ..common.models.timm import classifier_of_timm
from .vit_base_224 import dataloader, dataset, finetune, optimizer, train

model = classifier_of_timm("swin_base_patch4_window7_224", drop_path=0.1, head_std=2e-5)
lr_multiplier = finetune("swin_base_224", batch=1024, lr=4e-3, epochs=100, warmup_epochs=5)
optimizer.params.update(layer_decay=0.80, decayed=["relative_position_bias_table"])
