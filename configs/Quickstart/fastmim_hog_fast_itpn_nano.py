"""FastMIM with the quick start's images."""

from ..common.schedule import warm_cosine
from ..Pretrain.fastmim_hog_fast_itpn_nano import model
from .pixel_mim_fast_itpn_nano import dataloader, dataset, optimizer, train

# nothing is dropped: these take about as long as 80 epochs of pixel_mim
lr_multiplier = warm_cosine(24, 2)
train.update(output_dir="output/quickstart_fastmim_hog", epochs=24)
train.checkpointer.epochs = train.visualize.epochs = 12
