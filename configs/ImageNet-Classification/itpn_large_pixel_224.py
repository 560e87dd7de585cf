"""iTPN-L, pre-trained on pixels, 50 epochs at 224 pixels."""

from .itpn_base_pixel_224 import dataloader, dataset, finetune, model, optimizer, train

model.network.update(name="itpn_large", drop_path=0.2)
lr_multiplier = finetune("itpn_large_pixel_224", batch=1024, lr=4e-3, epochs=50, warmup_epochs=5, min_lr=5e-6)
optimizer.params.layer_decay = 0.55 ** (13 / 45)
