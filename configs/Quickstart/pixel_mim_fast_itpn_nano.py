"""Pixel pre-training of the quick start's trunk and pyramid on the images of its own training scenes."""

from detectron2.config import LazyCall as L

from pretrain.data import scenes

from ..common.schedule import warm_cosine
from ..Pretrain.pixel_mim_fast_itpn_nano import dataloader, dataset, model, optimizer, train

dataset.train = L(scenes)(split="train", num_images=800, size=128, seed=7, root=None)
lr_multiplier = warm_cosine(80, 4)  # 30 brought a detector nothing, see docs/pretraining.md
train.update(output_dir="output/quickstart_pixel_mim", epochs=80)
train.checkpointer.epochs = train.visualize.epochs = 40
