"""FastMIM of the paper's ViT-B/16: 128 pixels, 800 epochs of batch 4096, one decoder block."""

from detectron2.config import LazyCall as L

from pretrain.encoders import ViTEncoder

from .fastmim_hog_fast_itpn_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.encoder = L(ViTEncoder)(img_size=128)
optimizer.params.decayed = ["cls_token"]  # the reference decays all but vectors
train.output_dir = "output/fastmim_hog_vit_base"
