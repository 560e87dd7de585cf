"""Masked feature modelling with a moving-average teacher, beside pixels (idea of Fast-iTPN; settings
ours)."""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from pretrain.masking import RandomMasking
from pretrain.methods import MFM

from ..common.pretrain import dataloader, dataset, lr_multiplier, optimizer, train

model = L(MFM)(
    backbone=L(create_model)(name="fast_itpn_base", pyramid=True, fpn_dim=256, pos_grid=(14, 14)),
    masking=L(RandomMasking)(ratio=0.75),
    feature_weight=1.0,
    pixel_weight=1.0,
    momentum=[(0, 0.999), (100, 0.9999), (400, 0.99999)],
    teacher_input="image",
    decoder_dim=512,
    decoder_depths=(2, 2, 4),
    decoder_heads=16,
)
train.output_dir = "output/mfm_fast_itpn_base"
