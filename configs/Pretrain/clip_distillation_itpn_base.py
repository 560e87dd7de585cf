"""CLIP-B/16 distillation of iTPN-B: smooth L1 on all tokens, main and auxiliary head (iTPN, CVPR'23).

The 800 epochs of the best base model; the reference's own command has 300 (train.epochs=300, and
lr_multiplier.warmup_length=5/300). The teacher's weights are a local file: model.teacher.weights=FILE.
"""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from pretrain.masking import BlockMasking
from pretrain.methods import CLIPDistillation
from pretrain.targets import CLIPTeacher

from ..common.pretrain import dataloader, dataset, optimizer, train
from ..common.schedule import warm_cosine

model = L(CLIPDistillation)(
    backbone=L(create_model)(
        name="itpn_base",
        pyramid=True,
        fpn_dim=256,
        fpn_depth=1,
        pos_grid=(14, 14),
        rel_pos="table",
        layer_scale=0.1,
        drop_path=0.1,
    ),
    teacher=L(CLIPTeacher)(  # quickgelu: OpenAI's weights
        name="vit_base_patch16_clip_quickgelu_224",
        weights=None,
        image_size=224,
        features="projected",
        normalise=True,
    ),
    masking=L(BlockMasking)(num_masked=75, min_block=16),
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
)
dataloader.train.view.update(
    scale=(0.08, 1.0), colour_jitter=0.4, teacher_size=224, teacher_interpolation="lanczos"
)
dataloader.train.update(total_batch_size=2048, reference_batch=2048)
optimizer.update(lr=1.5e-3, betas=(0.9, 0.98))
lr_multiplier = warm_cosine(800, 5, end=1e-5 / 1.5e-3)
train.update(output_dir="output/clip_distillation_itpn_base", epochs=800, base_lr=None)
