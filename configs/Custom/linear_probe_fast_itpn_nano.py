"""A linear classifier of your own images on the frozen features of a checkpoint: train.init_checkpoint=FILE.

Without training, nearest neighbours: python -m pretrain.probe --config-file THIS --opts key=value ...
"""

from .classifier_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

model.update(augmentation=None, head_only=True)
model.network.update(drop_path=0.0, pooling="mean_then_batch_norm", final_norm=True, head_std=0.01)
dataloader.train.mapper.view.update(auto_augment=None, color_jitter=0.0)
optimizer.params.weight_decay = 0.0
optimizer.lr = 1e-2
train.update(
    output_dir="output/custom_linear_probe_nano",
    max_iter=500,
    eval_period=100,
    best_metric="classification/top1",
)
train.ema.enabled = False
