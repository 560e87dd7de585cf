"""UPerNet over a plain ViT of a few channels (ours) on generated scenes."""

from ..common.models.timm import upernet_vit
from .upernet_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

model = upernet_vit(
    "vit_tiny_patch16_224",
    [0, 1, 2, 3],
    channels=128,
    norm="GN",
    window=128,
    stride=96,
    img_size=128,
    options=dict(embed_dim=128, depth=4, num_heads=4),
)
model.auxiliary_head.channels = 64
train.output_dir = "output/quickstart_upernet_vit"
