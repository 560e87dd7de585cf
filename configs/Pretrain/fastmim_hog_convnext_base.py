"""FastMIM over a convolutional network: timm's ConvNeXt-B, squares and tokens of 32 pixels."""

from detectron2.config import LazyCall as L

from pretrain.encoders import TimmEncoder

from .fastmim_hog_swin_base import dataloader, dataset, lr_multiplier, model, optimizer, train

model.encoder = L(TimmEncoder)(name="convnext_base")
del optimizer.params.decayed
train.output_dir = "output/fastmim_hog_convnext_base"
