"""CLIP-L/14 into iTPN-L/16, 300 epochs; the teacher sees 196 pixels, so that its grid is the student's."""

from ..common.schedule import warm_cosine
from .clip_distillation_itpn_base import dataloader, dataset, model, optimizer, train

model.backbone.update(name="itpn_large", drop_path=0.2)
model.teacher.update(name="vit_large_patch14_clip_quickgelu_224", image_size=196)
dataloader.train.view.teacher_size = 196
lr_multiplier = warm_cosine(300, 5, end=1e-5 / 1.5e-3)
train.update(output_dir="output/clip_distillation_itpn_large", epochs=300)
