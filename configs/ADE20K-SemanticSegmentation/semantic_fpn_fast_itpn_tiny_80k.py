"""Semantic FPN, Fast-iTPN-T, 80k iterations on ADE20K (ours: the UPerNet's recipe at twice its rate, no
auxiliary head)."""

from ..common.models.segmentor import semantic_fpn
from ..common.schedule import poly
from .upernet_fast_itpn_tiny_160k import dataloader, dataset, optimizer, train

model = semantic_fpn("fast_itpn_tiny")
model.backbone.drop_path = 0.1
optimizer.lr = 6e-5
lr_multiplier = poly(80000, warmup_iter=1500)
train.update(output_dir="output/semantic_fpn_fast_itpn_tiny_80k", max_iter=80000, eval_period=8000)
train.checkpointer.period = 8000
