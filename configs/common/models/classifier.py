"""An iTPN trunk with a linear head; in training with the references' mixup, cutmix, erasing and smoothing."""

from detectron2.config import LazyCall as L

from itpn_d2.backbone import create_model
from itpn_d2.meta_arch import BatchAugmentation, ImageClassifier
from itpn_d2.normalisation import IMAGENET


def classifier(name, drop_path=0.1, **options):
    """The classifier ``name``; ``options`` go to :func:`itpn_d2.create_model`."""
    return L(ImageClassifier)(
        network=L(create_model)(
            name=name, num_classes="${dataset.num_classes}", drop_path=drop_path, **options
        ),
        augmentation=L(BatchAugmentation)(
            mixup=0.8, cutmix=1.0, switch_probability=0.5, label_smoothing=0.1, erasing=0.25
        ),
        pixel_mean=list(IMAGENET.mean),  # RGB
        pixel_std=list(IMAGENET.std),
        input_format="RGB",
        head_only=False,
    )


def set_image_size(model, dataloader, size):
    """The references' views of ``size`` pixels, in place: below 384 the middle of an image whose short side
    is 256/224 of it, from 384 on the whole image, squashed. The position table gets the grid of that size."""
    model.network.pos_grid = (size // 16, size // 16)
    dataloader.image.size = size
    if size >= 384:
        dataloader.image.update(crop_fraction=1.0, crop_mode="squash")
