"""Cascade Mask R-CNN, iTPN-B (CLIP pre-training), 36 epochs.

Corrected: the reference's config lays a single box head over the list of three and can't be built.
"""

from .cascade_mask_rcnn_itpn_base_3x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(layer_scale=0.1, rel_pos="none", fpn_depth=1)
train.output_dir = "output/cascade_mask_rcnn_itpn_clip_base_3x"
