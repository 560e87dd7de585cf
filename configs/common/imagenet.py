"""Fine-tuning on ImageNet-1K: AdamW .9/.999, weight decay .05, layer decay, cosine after a warm-up from 0,
moving average .9999; evaluated after every epoch. Start from a pre-training: train.init_checkpoint=FILE.

A checkpoint of another size or with other classes (21K to 1K, 224 to 512 pixels) is loaded as far as it fits;
the report names the head that starts anew and the tables that are resized.
"""

from .data.imagenet import dataloader, dataset
from .models.classifier import classifier, set_image_size
from .optim import optimizer
from .schedule import warm_cosine
from .train import train

_IMAGES = 1281167
train.update(best_metric="classification/top1", log_period=50)
train.ema.update(enabled=True, decay=0.9999)


def finetune(name, batch, lr, epochs, warmup_epochs, min_lr=1e-6):
    """Set the length of the run, its batch and its rate; returns the schedule."""
    per_epoch = _IMAGES // batch
    dataloader.train.update(total_batch_size=batch, reference_batch=batch)
    optimizer.lr = lr
    train.update(
        output_dir=f"output/{name}",
        max_iter=epochs * per_epoch,
        eval_period=per_epoch,
        checkpointer=dict(period=per_epoch, max_to_keep=3),
    )
    return warm_cosine(epochs, warmup_epochs, end=min_lr / lr)
