"""Fast-iTPN-B at 224 pixels, 20 epochs."""

from .fast_itpn_tiny_224 import dataloader, dataset, finetune, model, optimizer, set_image_size, train

model.network.name = "fast_itpn_base"
lr_multiplier = finetune("fast_itpn_base_224", batch=1024, lr=1e-4, epochs=20, warmup_epochs=3)
optimizer.params.layer_decay = 0.90
