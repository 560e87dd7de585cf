"""The reference's iTPN-L/14: 256 pixels in patches of 16 have the grid of CLIP-L/14 at its own 224."""

from .clip_distillation_itpn_large import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.pos_grid = (16, 16)
model.teacher.image_size = 224
dataloader.train.view.update(size=256, teacher_size=224)
train.output_dir = "output/clip_distillation_itpn_large_256"
