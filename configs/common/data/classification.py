"""Your own labelled images, dataset.{train,val}.images: a folder for each class, or text files of path,label.

Augmentation of the references' fine-tuning (timm's): random crop and flip, RandAugment, bicubic.
"""

from detectron2.config import LazyCall as L
from timm.data import create_transform

from itpn_d2.data import LabelledImageMapper, build_test_loader, build_train_loader, register_labelled_images
from itpn_d2.evaluation import ClassificationEvaluator

dataset = dict(
    train=L(register_labelled_images)(name="labelled_train", images="", skip_bad_records=False),
    # classes: those of the training set
    val=L(register_labelled_images)(name="labelled_val", images="", classes=None, skip_bad_records=False),
    num_classes=None,  # from the folders
    class_names=None,
)

dataloader = dict(
    decoder="auto",  # of pictures: auto or pillow
    image=dict(size=224, crop_fraction=0.875, crop_mode="center"),
    train=L(build_train_loader)(
        dataset="${dataset.train.name}",
        mapper=L(LabelledImageMapper)(
            view=L(create_transform)(
                input_size="${dataloader.image.size}",
                is_training=True,
                scale=(0.08, 1.0),
                auto_augment="rand-m9-mstd0.5-inc1",
                interpolation="bicubic",
                use_prefetcher=True,  # uint8: the model normalises
            ),
            seed="${train.seed}",
            decoder="${dataloader.decoder}",
        ),
        total_batch_size=1024,
        num_workers=8,
        seed="${train.seed}",
        aspect_ratio_grouping=False,
        filter_empty=False,
    ),
    test=L(build_test_loader)(
        dataset="${dataset.val.name}",
        mapper=L(LabelledImageMapper)(
            view=L(create_transform)(
                input_size="${dataloader.image.size}",
                is_training=False,
                crop_pct="${dataloader.image.crop_fraction}",
                crop_mode="${dataloader.image.crop_mode}",
                interpolation="bicubic",
                use_prefetcher=True,
            ),
            decoder="${dataloader.decoder}",
        ),
        batch_size=64,
        num_workers=4,
    ),
    val_loss="${dataloader.test}",
    evaluator=L(ClassificationEvaluator)(
        dataset_name="${dataset.val.name}", output_dir=None, per_class=False
    ),
)
