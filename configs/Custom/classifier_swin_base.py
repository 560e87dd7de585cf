"""A classifier of your own images with Swin-B."""

from ..common.models.timm import classifier_of_timm
from .classifier_vit_base import dataloader, dataset, lr_multiplier, optimizer, train

model = classifier_of_timm("swin_base_patch4_window7_224", drop_path=0.1, head_std=2e-5)
optimizer.params.layer_decay = 0.80
train.output_dir = "output/custom_classifier_swin_base"
