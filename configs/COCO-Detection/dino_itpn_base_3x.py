"""DINO, iTPN-B (pixel pre-training), 36 epochs."""

from .dino_fast_itpn_tiny_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_base", drop_path=0.3, fpn_depth=2, norm_eps=1e-6)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
model.checkpointing = ("encoder",)
train.output_dir = "output/dino_itpn_base_3x"
