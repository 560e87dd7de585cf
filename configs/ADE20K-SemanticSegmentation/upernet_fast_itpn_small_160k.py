"""UPerNet, 160k iterations on ADE20K, Fast-iTPN-S."""

from .upernet_fast_itpn_tiny_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_small", drop_path=0.1)
train.output_dir = "output/upernet_fast_itpn_small_160k"
