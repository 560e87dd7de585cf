"""CLIP-B/16 distillation of iTPN-B: smooth L1 on all tokens, main and auxiliary head (iTPN, CVPR'23).

The teacher's weights are a local file: model.teacher.weights=FILE.
"""

from detectron2.config import LazyCall as L

from pretrain.encoders import build_backbone
from pretrain.masking import BlockMasking
from pretrain.methods import CLIPDistillation
from pretrain.targets import CLIPTeacher

from ..common.pretrain import dataloader, dataset, optimizer, train, warm_cosine

model = L(CLIPDistillation)(
    backbone=L(build_backbone)(
        name="itpn_base",
        fpn_dim=256,
        fpn_depth=1,
        image_size=224,
        rel_pos="table",
        layer_scale=0.1,
        drop_path=0.1,
    ),
    teacher=L(CLIPTeacher)(
        name="vit_base_patch16_clip_224", weights=None, image_size=224, features="projected", normalise=True
    ),
    masking=L(BlockMasking)(num_masked=75, min_block=16),
)
dataloader.train.view.teacher_size = 224
dataloader.train.total_batch_size = 2048
optimizer.update(lr=1.5e-3, betas=(0.9, 0.98))
lr_multiplier = warm_cosine(800, 10, end=1e-5 / 1.5e-3)
train.update(output_dir="output/clip_distillation_itpn_base", epochs=800, base_lr=None, clip_grad_norm=3.0)
