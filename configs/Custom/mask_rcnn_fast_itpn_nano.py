"""Instance segmentation on your own COCO json; small enough to train on a CPU (the nano trunk is ours, not
the paper's).

python train_net.py --config-file configs/Custom/mask_rcnn_fast_itpn_nano.py \
    dataset.train.json=... dataset.train.images=... dataset.val.json=... dataset.val.images=...
"""

from ..common.data.custom import dataloader, dataset
from ..common.models.rcnn import rcnn_fast_itpn, slim_heads
from ..common.optim import optimizer
from ..common.schedule import cosine
from ..common.train import train

model = slim_heads(rcnn_fast_itpn("fast_itpn_nano", fpn_dim=128))
dataloader.image.update(short_sides=[256, 288, 320, 352, 384], test_short_side=320, max_size=640)
dataloader.train.total_batch_size = 8
optimizer.lr = 5e-4  # 1e-3 for runs of a few hundred iterations, see docs/pretraining.md
lr_multiplier = cosine()
train.update(
    output_dir="output/custom_mask_rcnn_nano",
    init_checkpoint="auto",
    max_iter=2000,
    clip_grad_norm=1.0,
    eval_period=1000,
    best_metric="ema/segm/AP",
)
train.ema.update(enabled=True, decay=0.999)
train.checkpointer.period = 500
train.visualize.period = 1000
