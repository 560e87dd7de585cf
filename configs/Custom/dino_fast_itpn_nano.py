"""DINO on your own COCO json, cut down for CPUs: 100 queries, 3 + 3 layers of 128 channels (this size and the
nano trunk are ours, not the papers').

python train_net.py --config-file configs/Custom/dino_fast_itpn_nano.py \
    dataset.train.json=... dataset.train.images=... dataset.val.json=... dataset.val.images=...
"""

from ..common.models.dino import dino
from .dino_fast_itpn_tiny import dataloader, dataset, lr_multiplier, optimizer, train

model = dino("fast_itpn_nano", dim=128, hidden=512, layers=(3, 3), queries=100)
model.backbone.fpn_dim = 128
model.denoising.number = 50
model.test_topk_per_image = 100
dataloader.image.update(short_sides=[256, 288, 320, 352, 384], test_short_side=320, max_size=640)
optimizer.lr = 4e-4
optimizer.params.layer_decay = 1.0
train.update(output_dir="output/custom_dino_nano", init_checkpoint="auto", max_iter=4000)
train.ema.decay = 0.999
