"""Cascade Mask R-CNN, 36 epochs, Fast-iTPN-L."""

from .cascade_mask_rcnn_fast_itpn_tiny_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="fast_itpn_large", drop_path=0.3)
optimizer.params.layer_decay = 0.95
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
train.output_dir = "output/cascade_mask_rcnn_fast_itpn_large_3x"
