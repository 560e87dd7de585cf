"""CLIP-L/14 into iTPN-L; the teacher sees 196 pixels, so that its grid is the student's."""

from .clip_distillation_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.name = "itpn_large"
model.teacher.update(name="vit_large_patch14_clip_224", image_size=196)
dataloader.train.view.teacher_size = 196
train.output_dir = "output/clip_distillation_itpn_large"
