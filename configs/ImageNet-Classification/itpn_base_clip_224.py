"""iTPN-B, pre-trained on CLIP's features, 100 epochs at 224 pixels: layer scale in every block, and images
normalised to -1..1. The batch of 2048 is the reference's 64 x 32."""

from .itpn_base_pixel_224 import dataloader, dataset, finetune, model, optimizer, set_image_size, train

model.network.update(drop_path=0.1, layer_scale=0.1, head_std=2e-4)
model.update(pixel_mean=[127.5, 127.5, 127.5], pixel_std=[127.5, 127.5, 127.5])
lr_multiplier = finetune("itpn_base_clip_224", batch=2048, lr=5e-4, epochs=100, warmup_epochs=20)
