"""Mask R-CNN, iTPN-B (pixel pre-training), 12 epochs: the reference's recipe (batch 64, lr 2e-4, layer decay
.90, drop path .05), its slips corrected:

- layer ids: it forgets that the two merges are blocks, which gives the last one 1.11 times the rate, and
  leaves the position table at the full rate; here the table is layer 0 and no block exceeds the rate;
- it decays relative position tables (the list of exceptions is never read); here they are not decayed;
- its pyramid has one block after each addition, the pixel checkpoints have two: the second one was dropped;
- its norms have eps 1e-5, pre-training has 1e-6;
- attention there sees the padding of a batch; here it does not.
"""

from .mask_rcnn_fast_itpn_tiny_1x import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_base", fpn_depth=2, norm_eps=1e-6, drop_path=0.05)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
train.output_dir = "output/mask_rcnn_itpn_base_1x"
