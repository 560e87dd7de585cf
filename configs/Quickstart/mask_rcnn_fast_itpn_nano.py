"""The embedded default: generated scenes, nothing to download, minutes on two CPU cores."""

from detectron2.config import LazyCall as L

from itpn_d2.data import register_scenes

from ..Custom.mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

scenes = dict(root=None, size=160, seed=7)  # root: $ITPN_D2_CACHE, else ~/.cache/itpn_d2
dataset.train = L(register_scenes)(name="quickstart_train", split="train", num_images=400, **scenes)
dataset.val = L(register_scenes)(name="quickstart_val", split="val", num_images=80, **scenes)
dataloader.image.update(short_sides=[144, 160, 176], test_short_side=160, max_size=256)
dataloader.train.update(total_batch_size=8, num_workers=0)
dataloader.test.num_workers = 0
dataloader.val_loss.num_workers = 0
train.update(
    output_dir="output/quickstart", max_iter=500, eval_period=250, log_period=10, validation_loss=True
)
