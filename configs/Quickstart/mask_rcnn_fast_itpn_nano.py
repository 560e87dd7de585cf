"""The embedded default: generated scenes, nothing to download, minutes on two CPU cores."""

from detectron2.config import LazyCall as L

from itpn_d2.data import register_scenes

from ..Custom.mask_rcnn_fast_itpn_nano import dataloader, dataset, lr_multiplier, model, optimizer, train

scenes = dict(root=None, size=128, seed=7)  # root: $ITPN_D2_CACHE, else ~/.cache/itpn_d2
dataset.train = L(register_scenes)(name="quickstart_train", split="train", num_images=800, **scenes)
dataset.val = L(register_scenes)(name="quickstart_val", split="val", num_images=100, **scenes)
dataloader.image.update(short_sides=[112, 128, 144], test_short_side=128, max_size=160)
dataloader.train.update(total_batch_size=8, num_workers=0)
dataloader.test.num_workers = 0
dataloader.val_loss.num_workers = 0
# objects of 15-50 pixels, at most 8 an image
model.proposal_generator.anchor_generator.sizes = [[16], [32], [64], [128], [256]]
# what costs most on a CPU: suppression of proposals, box heads on background, backward of RoIAlign
model.proposal_generator.update(pre_nms_topk=(300, 300), post_nms_topk=(100, 100))
model.roi_heads.update(batch_size_per_image=32, positive_fraction=0.5)
model.roi_heads.box_pooler.sampling_ratio = model.roi_heads.mask_pooler.sampling_ratio = 1
optimizer.lr = 1e-3
train.update(
    output_dir="output/quickstart", max_iter=1100, eval_period=550, log_period=10, validation_loss=True
)
train.checkpointer.period = 550
train.visualize.period = 550
train.ema.decay = 0.995
