"""iTPN-B, pre-trained on pixels, 100 epochs at 224 pixels.

The reference's decay of .60 is spread over the layers: .60 ** (13 / 31) for each. Its relative position
tables start at zero; there is no moving average.
"""

from ..common.imagenet import classifier, dataloader, dataset, finetune, optimizer, set_image_size, train

model = classifier("itpn_base", drop_path=0.15, rel_pos="table", head_std=2e-5)
lr_multiplier = finetune(
    "itpn_base_pixel_224", batch=1024, lr=1.6e-3, epochs=100, warmup_epochs=5, min_lr=5e-6
)
optimizer.params.layer_decay = 0.60 ** (13 / 31)
train.ema.enabled = False
