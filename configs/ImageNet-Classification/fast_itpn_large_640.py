"""Fast-iTPN-L at 640 pixels, 20 epochs of batch 512, in 4 micro-batches as in the reference."""

from .fast_itpn_tiny_224 import dataloader, dataset, finetune, model, optimizer, set_image_size, train

model.network.update(name="fast_itpn_large", drop_path=0.2, checkpointing=("stage1", "stage2", "stage3"))
set_image_size(model, dataloader, 640)
lr_multiplier = finetune("fast_itpn_large_640", batch=512, lr=5e-5, epochs=20, warmup_epochs=3)
optimizer.params.layer_decay = 0.95
train.accumulate = 4
