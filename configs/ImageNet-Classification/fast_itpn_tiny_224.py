"""Fast-iTPN-T on ImageNet-1K at 224 pixels, 100 epochs: the reference's recipe.

Its layer decay counts the two merges as layers.
"""

from ..common.imagenet import (
    classifier,
    dataloader,
    dataset,
    finetune,
    optimizer,
    set_image_size,
    train,
)

model = classifier("fast_itpn_tiny", drop_path=0.1)
lr_multiplier = finetune("fast_itpn_tiny_224", batch=1024, lr=1e-4, epochs=100, warmup_epochs=5)
optimizer.params.update(layer_decay=0.80, count_merges=True)
