"""Pixel reconstruction with dropped patches: 224 pixels, 1600 epochs, batch 4096 (iTPN, CVPR'23)."""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from pretrain.masking import RandomMasking
from pretrain.methods import PixelMIM

from .pretrain import dataloader, dataset, lr_multiplier, optimizer, train

model = L(PixelMIM)(
    backbone=L(create_model)(name="itpn_base", pyramid=True, fpn_dim=256, pos_grid=(14, 14)),
    masking=L(RandomMasking)(ratio=0.75),
    decoder_dim=512,
    decoder_depth=8,
    decoder_heads=16,
)
