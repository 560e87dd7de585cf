"""What makes a run of a quick-start config small enough for a test."""

SMALL = (
    "dataset.train.num_images=3",
    "dataset.val.num_images=2",
    "dataset.train.size=64",
    "dataset.val.size=64",
    "dataloader.image.test_short_side=64",
    "dataloader.train.total_batch_size=2",
    "model.backbone.channels=[16,32,64]",
    "model.backbone.depths=[1,1,1]",
    "model.backbone.num_heads=2",
    "train.log_period=1",
)
