"""Pixel pre-training of the quick start's trunk and pyramid on the images of its own training scenes."""

from detectron2.config import LazyCall as L

from pretrain.data import scenes

from ..common.schedule import warm_cosine
from ..Pretrain.pixel_mim_fast_itpn_nano import dataloader, dataset, model, optimizer, train

dataset.train = L(scenes)(split="train", num_images=800, size=128, seed=7, root=None)
# what helped a detector (docs/pretraining.md): many images seen, and the errors of masked patches only
model.update(visible_weight=0.0, xavier_decoder=False)
dataloader.train.total_batch_size = 64
optimizer.lr = 1e-3
lr_multiplier = warm_cosine(80, 4)
train.update(output_dir="output/quickstart_pixel_mim", epochs=80)
train.checkpointer.epochs = train.visualize.epochs = 40
