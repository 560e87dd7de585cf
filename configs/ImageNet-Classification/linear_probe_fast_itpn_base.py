"""A linear classifier on the frozen features of Fast-iTPN-B (MAE's protocol: batch norm without weights
before the head, LARS, no weight decay, crops and flips only, 90 epochs, 0.1 per 256 images).

Without training, also nearest neighbours: python -m pretrain.probe --help
"""

from detectron2.config import LazyCall as L
from timm.optim import Lars

from ..common.imagenet import classifier, dataloader, dataset, finetune, optimizer, train

model = classifier(
    "fast_itpn_base", drop_path=0.0, pooling="mean_then_batch_norm", final_norm=True, head_std=0.01
)
model.update(augmentation=None, head_only=True)
dataloader.train.mapper.view.update(auto_augment=None, color_jitter=0.0)
lr_multiplier = finetune(
    "linear_probe_fast_itpn_base", batch=16384, lr=6.4, epochs=90, warmup_epochs=10, min_lr=0.0
)
optimizer = L(Lars)(params=optimizer.params, lr=6.4, momentum=0.9)
optimizer.params.weight_decay = 0.0
train.ema.enabled = False
