"""Your own COCO json: set dataset.{train,val}.{json,images}; classes come from the json."""

from detectron2.config import LazyCall as L

from itpn_d2.data import (
    TestMapper,
    TrainMapper,
    build_test_loader,
    build_train_loader,
    build_val_loss_loader,
    custom_augmentations,
    register_coco,
    test_augmentations,
)
from itpn_d2.evaluation import build_evaluator

dataset = dict(
    train=L(register_coco)(name="custom_train", json="", images="", skip_bad_records=False),
    val=L(register_coco)(name="custom_val", json="", images="", skip_bad_records=False),
    num_classes=None,  # from the json
    class_names=None,
)

dataloader = dict(
    decoder="auto",  # of pictures: auto or pillow
    image=dict(
        short_sides=[480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800],
        test_short_side=800,
        max_size=1333,
    ),
    # several sizes of each test image (of test_short_side and max_size), and its mirror
    test_views=dict(enabled=False, scales=[0.5, 0.75, 1.0, 1.25, 1.5], flip=True),
    train=L(build_train_loader)(
        dataset="${dataset.train.name}",
        mapper=L(TrainMapper)(
            augmentations=L(custom_augmentations)(
                short_sides="${dataloader.image.short_sides}",
                max_size="${dataloader.image.max_size}",
                flip_vertical=False,
                rot90=False,
                crop=None,
                colour=True,
                large_scale_jitter=None,  # e.g. {size: 1024, min_scale: 0.1, max_scale: 2.0}
            ),
            use_instance_mask=True,
            recompute_boxes=True,  # a box around what a crop or a turn leaves of the mask
            seed="${train.seed}",
            decoder="${dataloader.decoder}",
        ),
        total_batch_size=16,
        num_workers=2,
        seed="${train.seed}",
        repeat_threshold=None,  # e.g. 0.001: images of rarer classes are repeated (LVIS)
    ),
    test=L(build_test_loader)(
        dataset="${dataset.val.name}",
        mapper=L(TestMapper)(
            augmentations=L(test_augmentations)(
                short_side="${dataloader.image.test_short_side}", max_size="${dataloader.image.max_size}"
            ),
            decoder="${dataloader.decoder}",
        ),
        batch_size=1,
        num_workers=2,
    ),
    val_loss=L(build_val_loss_loader)(
        dataset="${dataset.val.name}",
        mapper=L(TrainMapper)(
            augmentations="${dataloader.test.mapper.augmentations}",
            use_instance_mask="${dataloader.train.mapper.use_instance_mask}",
            seed=0,
            decoder="${dataloader.decoder}",
        ),
        batch_size=1,
        num_workers=2,
    ),
    evaluator=L(build_evaluator)(dataset_name="${dataset.val.name}", output_dir=None),
)
