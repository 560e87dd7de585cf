"""Cascade Mask R-CNN, iTPN-L (pixel pre-training), 36 epochs: ours, the reference has the base model only."""

from .cascade_mask_rcnn_itpn_base_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_large", drop_path=0.2)
optimizer.params.layer_decay = 0.95
train.output_dir = "output/cascade_mask_rcnn_itpn_large_3x"
