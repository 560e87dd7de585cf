"""A classifier of your own images, small enough to train on a CPU (the nano trunk is ours, not the paper's).

A folder for each class; the validation set may lack some of them:

python train_net.py --config-file configs/Custom/classifier_fast_itpn_nano.py \
    dataset.train.images=photos/train dataset.val.images=photos/val
"""

from ..common.data.classification import dataloader, dataset
from ..common.models.classifier import classifier, set_image_size
from ..common.optim import optimizer
from ..common.schedule import cosine
from ..common.train import train

model = classifier("fast_itpn_nano", drop_path=0.05)
set_image_size(model, dataloader, 128)
model.augmentation.update(mixup=0.2, cutmix=0.5, erasing=0.1)
dataloader.train.mapper.min_side = 512  # large photographs are decoded no smaller than this
dataloader.train.mapper.view.update(scale=(0.3, 1.0), auto_augment="rand-m5-mstd0.5-inc1")
dataloader.train.update(total_batch_size=64, num_workers=2)
dataloader.test.mapper.min_side = 512
dataloader.test.num_workers = 2
optimizer.lr = 1e-3
lr_multiplier = cosine()
train.update(
    output_dir="output/custom_classifier_nano",
    init_checkpoint="auto",
    max_iter=2000,
    clip_grad_norm=1.0,
    eval_period=200,
    best_metric="ema/classification/top1",
)
train.ema.update(enabled=True, decay=0.999)
train.checkpointer.period = 500
train.visualize.period = 1000
