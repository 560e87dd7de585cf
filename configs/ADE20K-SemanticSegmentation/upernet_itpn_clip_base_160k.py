"""UPerNet, iTPN-B (CLIP pre-training), 160k iterations on ADE20K. The pyramid has one block after each
addition, as the CLIP checkpoints have (the reference's has two, of which one is initialised at random).

Corrected: the reference counts the 44 blocks of the large trunk here, which makes the decay .971 for each.
"""

from .upernet_itpn_base_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(layer_scale=0.1, fpn_depth=1)
model.backbone.drop_path = 0.2
train.output_dir = "output/upernet_itpn_clip_base_160k"
