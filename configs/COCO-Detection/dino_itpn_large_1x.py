"""DINO, iTPN-L (pixel pre-training), 12 epochs."""

from .dino_fast_itpn_tiny_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_large", drop_path=0.2, fpn_depth=2, norm_eps=1e-6)
optimizer.params.layer_decay = 0.95
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/dino_itpn_large_1x"
