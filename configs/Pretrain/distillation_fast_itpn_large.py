from .distillation_fast_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "fast_itpn_large"
train.output_dir = "output/distillation_fast_itpn_large"
