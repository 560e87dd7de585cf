"""Pixel reconstruction with dropped patches: 224 pixels, 1600 epochs, batch 4096 (iTPN, CVPR'23)."""

from detectron2.config import LazyCall as L

from pretrain.encoders import build_backbone
from pretrain.masking import RandomMasking
from pretrain.methods import PixelMIM

from .pretrain import dataloader, dataset, lr_multiplier, optimizer, train

model = L(PixelMIM)(
    backbone=L(build_backbone)(name="itpn_base", fpn_dim=256, image_size=224),
    masking=L(RandomMasking)(ratio=0.75),
    decoder_dim=512,
    decoder_depth=8,
    decoder_heads=16,
)
