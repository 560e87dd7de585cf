"""UPerNet on your own label images, nano, with a slim head and GroupNorm.

python train_net.py --config-file configs/Custom/upernet_fast_itpn_nano.py dataset.classes=classes.txt \
    dataset.train.images=... dataset.train.labels=... dataset.val.images=... dataset.val.labels=...
"""

from ..common.data.semantic import dataloader, dataset
from ..common.models.segmentor import upernet
from ..common.optim import optimizer
from ..common.schedule import poly
from ..common.train import train

model = upernet("fast_itpn_nano", fpn_dim=128, channels=128, norm="GN", window=256, stride=171)
model.auxiliary_head.channels = 64
dataloader.image.update(short_sides=[192, 512], crop=[256, 256], test_short_side=320, max_size=1280)
dataloader.train.mapper.augmentations.max_size = 2560
dataloader.train.total_batch_size = 8
optimizer.lr = 5e-4
lr_multiplier = poly(2000, warmup_iter=100)
train.update(
    output_dir="output/custom_upernet_nano",
    init_checkpoint="auto",
    max_iter=2000,
    clip_grad_norm=1.0,
    eval_period=1000,
    best_metric="ema/sem_seg/mIoU",
)
train.ema.update(enabled=True, decay=0.999)
train.checkpointer.period = 500
train.visualize.period = 1000
