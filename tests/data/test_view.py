"""Views under augmentations: what the quick code makes is what Detectron2's makes."""

import numpy as np
import pytest
from detectron2.data import transforms as T

from itpn_d2.data import (
    custom_augmentations,
    detectron2_augmentations,
    lsj_augmentations,
    multiscale_crop_augmentations,
    semantic_augmentations,
)
from itpn_d2.data.colour import RandomContrast, RandomSaturation
from itpn_d2.data.view import View
from itpn_d2.seed import seeded

RECIPES = {
    "multi-scale": multiscale_crop_augmentations(),
    "jitter": lsj_augmentations(96),
    "custom": custom_augmentations([40, 64], 96, flip_vertical=True, crop=(32, 32), colour=False),
    "turned": custom_augmentations([40], 96, rot90=True, colour=False),
    "semantic": semantic_augmentations([40, 80], 200, (32, 32), colour=False),
    "yacs": detectron2_augmentations([48], 96, crop_type="relative_range"),
}


def picture(height=50, width=70, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def seen(recipe, image, decoder, position, labels=None):
    view = View(image.copy(), sem_seg=labels, decoder=decoder)
    with seeded(3, position):
        T.AugmentationList(recipe)(view)
    return view


@pytest.mark.parametrize("name", RECIPES)
def test_views_are_detectron2s(name):
    labels = np.random.default_rng(1).integers(0, 3, (50, 70), dtype=np.uint8)
    for position in range(8):
        quick, slow = (seen(RECIPES[name], picture(), d, position, labels) for d in ("auto", "pillow"))
        assert quick.image.shape == slow.image.shape
        assert np.abs(quick.image.astype(int) - slow.image).max() <= 2
        assert (quick.sem_seg == slow.sem_seg).all()
        assert (quick.tensor().numpy() == quick.image.transpose(2, 0, 1)).all()
        assert quick.tensor().is_contiguous() and slow.tensor().is_contiguous()


def test_pillow_is_detectron2s_to_the_last_bit():
    theirs = [T.RandomFlip(), T.ResizeShortestEdge(60, 90), T.RandomBrightness(0.7, 1.3)]
    theirs += [T.RandomContrast(0.7, 1.3), T.RandomSaturation(0.7, 1.3)]
    ours = [*theirs[:3], RandomContrast(0.7, 1.3), RandomSaturation(0.7, 1.3)]
    for position in range(6):
        plain = T.AugInput(picture(seed=position))
        with seeded(3, position):
            T.AugmentationList(theirs)(plain)
        assert (seen(ours, picture(seed=position), "pillow", position).image == plain.image).all()


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (T.RandomBrightness, 0),
        (T.RandomContrast, 0),
        (RandomContrast, 0),
        (RandomSaturation, 1),
        (T.RandomSaturation, 0),
    ],
)
def test_colours_are_detectron2s(kind, most):
    """Of the same random number; of flipped images too, whose rows run backwards."""
    name = {RandomContrast: T.RandomContrast, RandomSaturation: T.RandomSaturation}.get(kind, kind)
    for position in range(6):
        image = picture(seed=position)[:, :: 1 if position % 2 else -1]
        plain = T.AugInput(image)
        with seeded(3, position):
            name(0.3, 1.9)(plain)
        found = View(image, decoder="auto")
        with seeded(3, position):
            kind(0.3, 1.9)(found)
        assert np.abs(found.image.astype(int) - plain.image).max() <= most


def test_other_images_take_detectron2s_way():
    for image in (picture()[..., :1], picture().astype(np.float32), picture()[..., 0]):
        quick, slow = (seen([T.RandomFlip(1.0), T.Resize((20, 30))], image, d, 0) for d in ("auto", "pillow"))
        assert (quick.image == slow.image).all()


def test_lists_of_transforms_are_taken_apart():
    class Twice(T.Augmentation):
        def get_transform(self, image):
            return T.TransformList([T.HFlipTransform(image.shape[1]), T.ResizeTransform(50, 70, 20, 30)])

    quick, slow = (seen([Twice()], picture(), d, 0) for d in ("auto", "pillow"))
    assert quick.image.shape == (20, 30, 3)
    assert np.abs(quick.image.astype(int) - slow.image).max() <= 2
