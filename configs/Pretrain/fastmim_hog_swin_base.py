"""FastMIM of the paper's Swin-B: 128 pixels, 400 epochs of batch 2048, four decoder blocks, squares of 32."""

from detectron2.config import LazyCall as L

from pretrain.encoders import SwinEncoder

from ..common.schedule import warm_cosine
from .fastmim_hog_fast_itpn_base import dataloader, dataset, model, optimizer, train

model.encoder = L(SwinEncoder)(img_size=128, window_size=4)
model.masking.block = 32
model.decoder_depth = 4
optimizer.params.decayed = ["relative_position_bias_table"]  # the reference decays all but vectors
dataloader.train.total_batch_size = 2048
lr_multiplier = warm_cosine(400, 10)
train.update(output_dir="output/fastmim_hog_swin_base", epochs=400, size_divisor=32)
