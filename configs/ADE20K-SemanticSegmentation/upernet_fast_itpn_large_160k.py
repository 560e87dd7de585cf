"""UPerNet, 160k iterations on ADE20K, Fast-iTPN-L."""

from .upernet_fast_itpn_tiny_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_large", drop_path=0.2)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
train.output_dir = "output/upernet_fast_itpn_large_160k"
