"""DINO, Fast-iTPN-T, 12 epochs of large-scale jitter at 1536 pixels."""

from .dino_fast_itpn_tiny_lsj1024_1x import (
    dataloader,
    dataset,
    lr_multiplier,
    model,
    optimizer,
    set_jitter_size,
    train,
)

set_jitter_size(dataloader, 1536)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/dino_fast_itpn_tiny_lsj1536_1x"
