"""Mask R-CNN, Swin-B, 36 epochs with large-scale jitter at 1024: the recipe of FastMIM's detector (AdamW
6e-5, drop path .2, FPN and heads with SyncBN, two convolutions in the RPN, L1 losses,
tested at 1024 x 1666).

It starts from FastMIM's fine-tuned classifier: train.init_checkpoint=FILE. What differs from the reference:

- it pastes objects of one image into another (copy-paste), which is not done here;
- its four images per GPU are taken for eight GPUs, which it does not say;
- biases are not weight-decayed here.
"""

from ..common.data.coco_lsj import dataloader, dataset
from ..common.models.rcnn import rcnn_fast_itpn
from ..common.models.timm import fpn, use_pyramid
from ..common.optim import optimizer
from ..common.schedule import steps
from ..common.train import train

model = rcnn_fast_itpn("fast_itpn_base")
use_pyramid(model, fpn("swin_base_patch4_window7_224", norm="SyncBN", level_norms=True))
model.backbone.bottom_up.update(drop_path=0.2, checkpointing=True)
model.proposal_generator.head.conv_dims = [-1, -1]
model.roi_heads.proposal_matcher.allow_low_quality_matches = True
model.roi_heads.box_predictor.update(
    box_reg_loss_type="smooth_l1", loss_weight=dict(loss_cls=1.0, loss_box_reg=1.0)
)
model.roi_heads.mask_head.conv_norm = "SyncBN"
dataloader.image.update(test_short_side=1024, max_size=1666)
dataloader.train.update(total_batch_size=32, reference_batch=32)
optimizer.lr = 6e-5
# 36 epochs * 117266 images with boxes / 32 = 131924 iterations; drops after epochs 27 and 33
lr_multiplier = steps(131924, [98943, 120930], warmup_iter=1000)
train.update(
    output_dir="output/mask_rcnn_swin_base_3x",
    max_iter=131924,
    eval_period=10994,
    checkpointer=dict(period=3664, max_to_keep=3),
)
