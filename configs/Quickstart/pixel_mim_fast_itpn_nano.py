"""Pixel pre-training of the quick start's trunk and pyramid on the images of its own training scenes: two
minutes on two cores.
"""

from detectron2.config import LazyCall as L

from pretrain.data import scenes
from pretrain.targets import Pixels

from ..common.pretrain import warm_cosine
from ..Pretrain.pixel_mim_fast_itpn_nano import dataloader, dataset, model, optimizer, train

dataset.train = L(scenes)(split="train", num_images=800, size=128, seed=7, root=None)
dataloader.train.total_batch_size = 32
# ours: normalised per patch, the noise of the textures outweighs shapes for the first thousand steps
model.target = L(Pixels)(normalise=False)
lr_multiplier = warm_cosine(28, 2)
train.update(output_dir="output/quickstart_pixel_mim", epochs=28)
train.checkpointer.epochs = train.visualize.epochs = 14
