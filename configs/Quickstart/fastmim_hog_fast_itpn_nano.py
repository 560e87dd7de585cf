"""FastMIM with the quick start's images."""

from ..Pretrain.fastmim_hog_fast_itpn_nano import model
from .pixel_mim_fast_itpn_nano import dataloader, dataset, lr_multiplier, optimizer, train

train.output_dir = "output/quickstart_fastmim_hog"
