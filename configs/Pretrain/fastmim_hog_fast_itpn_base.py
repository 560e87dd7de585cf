"""FastMIM: HOG targets at 128 pixels over trunk and pyramid (FastMIM, 2022; its encoders were others)."""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from pretrain.encoders import PyramidEncoder
from pretrain.masking import GridMasking
from pretrain.methods import FastMIM
from pretrain.targets import HOG

from ..common.pretrain import dataloader, dataset, optimizer, train, warm_cosine

model = L(FastMIM)(
    encoder=L(PyramidEncoder)(
        backbone=L(create_model)(name="fast_itpn_base", pyramid=True, fpn_dim=256, pos_grid=(8, 8)),
        drop_last=0,
    ),
    target=L(HOG)(),
    masking=L(GridMasking)(ratio=0.75, block=16),
    decoder_dim=256,
    decoder_depth=1,
    decoder_heads=8,
)
dataloader.train.view.size = 128
lr_multiplier = warm_cosine(800, 20)
train.update(output_dir="output/fastmim_hog_fast_itpn_base", epochs=800)
