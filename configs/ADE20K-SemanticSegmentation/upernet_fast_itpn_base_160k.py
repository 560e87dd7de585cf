"""UPerNet, 160k iterations on ADE20K, Fast-iTPN-B."""

from .upernet_fast_itpn_tiny_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_base", drop_path=0.2)
train.output_dir = "output/upernet_fast_itpn_base_160k"
