"""ViT-B/16, pre-trained with FastMIM, 100 epochs at 224 pixels: its fine-tuning (6e-4 per 256 images, layer
decay .70, mean of the patch tokens, no moving average)."""

from ..common.imagenet import dataloader, dataset, finetune, optimizer, train
from ..common.models.timm import classifier_of_timm

model = classifier_of_timm(
    "vit_base_patch16_224", drop_path=0.1, head_std=2e-5, options=dict(global_pool="avg")
)
lr_multiplier = finetune("vit_base_224", batch=1024, lr=2.4e-3, epochs=100, warmup_epochs=5)
optimizer.params.layer_decay = 0.70
train.ema.enabled = False
