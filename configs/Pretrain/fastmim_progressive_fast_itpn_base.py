"""FastMIM with growing images; the paper releases no values, these stages are ours."""

from .fastmim_hog_fast_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

train.progressive = [
    dict(epoch=0, size=128, batch=4096),
    dict(epoch=400, size=160, batch=3072),
    dict(epoch=600, size=192, batch=2048),
]
train.output_dir = "output/fastmim_progressive_fast_itpn_base"
