"""Your own label images: dataset.{train,val}.{images,labels} are folders, dataset.classes a file of names."""

from detectron2.config import LazyCall as L

from itpn_d2.data import (
    SemanticMapper,
    TestMapper,
    build_test_loader,
    build_train_loader,
    build_val_loss_loader,
    register_semantic,
    semantic_augmentations,
    test_augmentations,
)
from itpn_d2.evaluation import SemanticEvaluator

labels = dict(
    images="",
    labels="",
    classes="${dataset.classes}",
    zero_is_other=False,  # True: 0 is no class, classes count from 1
    ignore_label=255,
    skip_bad_records=False,
)
dataset = dict(
    classes="",  # one name a line, in the order of the numbers
    train=L(register_semantic)(name="semantic_train", **labels),
    val=L(register_semantic)(name="semantic_val", **labels),
    num_classes=None,  # from the file
    class_names=None,
)

dataloader = dict(
    decoder="auto",  # of pictures: auto or pillow
    image=dict(short_sides=[256, 1024], crop=[512, 512], test_short_side=512, max_size=2048),
    test_views=dict(enabled=False, scales=[0.5, 0.75, 1.0, 1.25, 1.5, 1.75], flip=True),
    train=L(build_train_loader)(
        dataset="${dataset.train.name}",
        mapper=L(SemanticMapper)(
            augmentations=L(semantic_augmentations)(
                short_sides="${dataloader.image.short_sides}",
                max_size=4096,  # twice the test size's, as the largest short side is
                crop="${dataloader.image.crop}",
                category_max_area=0.75,
                flip=True,
                colour=True,
            ),
            seed="${train.seed}",
            decoder="${dataloader.decoder}",
        ),
        total_batch_size=16,
        num_workers=2,
        seed="${train.seed}",
        aspect_ratio_grouping=False,
        filter_empty=False,
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
        mapper=L(SemanticMapper)(
            augmentations="${dataloader.test.mapper.augmentations}", seed=0, decoder="${dataloader.decoder}"
        ),
        batch_size=1,
        num_workers=2,
        filter_empty=False,
    ),
    evaluator=L(SemanticEvaluator)(dataset_name="${dataset.val.name}", output_dir=None),
)
