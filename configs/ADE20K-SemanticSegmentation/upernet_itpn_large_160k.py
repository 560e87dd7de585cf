"""UPerNet, iTPN-L (pixel pre-training), 160k iterations on ADE20K."""

from .upernet_itpn_base_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(name="itpn_large", drop_path=0.2)
model.backbone.checkpointing = ("stage1", "stage2", "stage3")
optimizer.params.layer_decay = 0.95 ** (13 / 46)
train.output_dir = "output/upernet_itpn_large_160k"
