"""UPerNet on generated scenes: the class of every pixel, background included."""

from ..common.schedule import poly
from ..Custom.upernet_fast_itpn_nano import dataloader, model, optimizer, train
from .mask_rcnn_fast_itpn_nano import dataset

model.update(window=128, stride=96)
dataset.train.update(name="quickstart_semantic_train", task="semantic")
dataset.val.update(name="quickstart_semantic_val", task="semantic")
dataloader.image.update(short_sides=[112, 192], crop=[128, 128], test_short_side=128, max_size=256)
dataloader.train.mapper.augmentations.update(max_size=512, category_max_area=1.0)  # it is mostly background
dataloader.train.num_workers = dataloader.test.num_workers = dataloader.val_loss.num_workers = 0
optimizer.lr = 1e-3
lr_multiplier = poly(600, warmup_iter=30)
train.update(
    output_dir="output/quickstart_upernet", max_iter=600, eval_period=300, log_period=10, validation_loss=True
)
train.checkpointer.period = 300
train.visualize.period = 300
train.ema.decay = 0.995
