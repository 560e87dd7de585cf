"""iTPN-L, pre-trained on CLIP's features, 50 epochs at 224 pixels."""

from .itpn_base_clip_224 import dataloader, dataset, finetune, model, optimizer, set_image_size, train

model.network.update(name="itpn_large", drop_path=0.25)
lr_multiplier = finetune("itpn_large_clip_224", batch=1024, lr=2e-4, epochs=50, warmup_epochs=5)
optimizer.params.layer_decay = 0.55 ** (13 / 45)
