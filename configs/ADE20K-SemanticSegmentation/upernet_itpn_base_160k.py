"""UPerNet, iTPN-B (pixel pre-training), 160k iterations on ADE20K: the reference's recipe, its
slips corrected:

- .90 there is raised to 13/32 for each block (.958), which the layer decay here states as it is;
- the position table is weight-decayed there; here it is not;
- its norms have eps 1e-5, pre-training has 1e-6.

Relative positions are tables for the 32x32 tokens of a window.
"""

from .upernet_fast_itpn_tiny_160k import dataloader, dataset, lr_multiplier, model, optimizer, train

model.backbone.update(
    name="itpn_base", fpn_depth=2, rel_pos="table", rel_pos_grid=(32, 32), norm_eps=1e-6, drop_path=0.1
)
optimizer.params.layer_decay = 0.90 ** (13 / 32)
train.output_dir = "output/upernet_itpn_base_160k"
