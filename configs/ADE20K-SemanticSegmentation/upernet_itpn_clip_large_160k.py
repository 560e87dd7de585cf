"""UPerNet, iTPN-L (CLIP pre-training), 160k iterations on ADE20K. The pyramid has one block after each
addition, as the CLIP checkpoints have (the reference's has two, of which one is initialised at random)."""

from .upernet_itpn_large_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(layer_scale=0.1, fpn_depth=1)
train.output_dir = "output/upernet_itpn_clip_large_160k"
