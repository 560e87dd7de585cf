"""Distillation of CLIP-L/14 into Fast-iTPN-B: block-wise masks, negative cosine on masked patches (TPAMI'24).

The teacher's weights are a local file: model.teacher.weights=FILE. What the released models had as target is
not known: the only public code takes the tokens (1024 wide), the size of the released base model fits a head
of 768, as projected tokens need it: model.teacher.features=projected.
"""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from pretrain.masking import BlockMasking
from pretrain.methods import FeatureDistillation
from pretrain.targets import CLIPTeacher

from ..common.pretrain import dataloader, dataset, optimizer, train
from ..common.schedule import warm_cosine

model = L(FeatureDistillation)(
    backbone=L(create_model)(
        name="fast_itpn_base", pyramid=True, fpn_dim=256, pos_grid=(14, 14), drop_path=0.1
    ),
    # 196 pixels in patches of 14 give the student's 14x14 grid
    teacher=L(CLIPTeacher)(
        # quickgelu: OpenAI's weights
        name="vit_large_patch14_clip_quickgelu_224",
        weights=None,
        image_size=196,
        features="tokens",
    ),
    masking=L(BlockMasking)(num_masked=75, min_block=16),
    stem_gradient=0.1,
)
dataloader.train.view.teacher_size = 196
# the reference's launcher: 16 GPUs of 64
dataloader.train.update(total_batch_size=1024, reference_batch=1024)
optimizer.update(lr=1.5e-3, betas=(0.9, 0.98), eps=1e-6)
lr_multiplier = warm_cosine(1600, 10, end=1e-5 / 1.5e-3)
train.update(output_dir="output/distillation_fast_itpn_base", base_lr=None, clip_grad_norm=3.0)
