"""mmpretrain's itpn-clip-b_hivit-base-p16_8xb256-amp-coslr-800e: HiViT's depths (4, 4, 24), one head, against
CLIP-B/16's projected tokens of masked patches. A detector takes it with model.backbone.depths=[4,4,24].

Ours: the negative cosine of their 300-epoch recipe (the 800-epoch one has a cross-entropy, for which features
are no probabilities), and a position table that learns, where it stays at random values there. The teacher's
weights are a local file: model.teacher.weights=FILE.
"""

from itpn_d2.normalisation import IMAGENET

from ...common.schedule import warm_cosine
from ..clip_distillation_itpn_base import dataloader, dataset, model, optimizer, train

model.backbone.update(depths=(4, 4, 24), fpn_depth=2)
model.teacher.normalise = False
model.update(auxiliary=False, loss="cosine", supervised="masked")
model.update(pixel_mean=list(IMAGENET.mean), pixel_std=list(IMAGENET.std))
dataloader.train.view.update(scale=(0.2, 1.0), teacher_interpolation="bicubic")
optimizer.betas = (0.9, 0.999)
lr_multiplier = warm_cosine(800, 10, end=1e-5 / 1.5e-3)
train.update(output_dir="output/mmpretrain_clip_distillation_itpn_base", clip_grad_norm=3.0)
