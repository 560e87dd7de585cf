"""Augmentation recipes, as lists of Detectron2 augmentations."""

from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from fvcore.transforms.transform import Transform

from .colour import RandomContrast, RandomSaturation
from .labels import IGNORED

Recipe = list[T.Augmentation]


class OneOf(T.Augmentation):
    """One of several recipes, drawn uniformly for each image."""

    def __init__(self, recipes: Sequence[Sequence[T.Augmentation]]):
        super().__init__()
        self.recipes = [T.AugmentationList(list(recipe)) for recipe in recipes]

    def __call__(self, aug_input: T.AugInput) -> Transform:
        """Apply the drawn recipe to ``aug_input`` and return it as one transform."""
        return self.recipes[np.random.randint(len(self.recipes))](aug_input)


class ResizeShortestEdge(T.ResizeShortestEdge):
    """Detectron2's resizing, which leaves at least one row and one column of an image that is more than
    ``max_size`` times as long as it is wide."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """The resize for an image ``(H, W, ...)``, to at least one pixel per side."""
        found = super().get_transform(image)
        if isinstance(found, T.ResizeTransform) and min(found.new_h, found.new_w) < 1:
            return T.ResizeTransform(found.h, found.w, max(found.new_h, 1), max(found.new_w, 1), found.interp)
        return found


def multiscale_crop_augmentations() -> Recipe:
    """The reference detectors' training views (DETR's): flip, then either a random short side of
    480-800, or resize to 400-600, crop 384-600, and that resize."""
    sides = tuple(range(480, 801, 32))
    crop = [
        ResizeShortestEdge((400, 500, 600), sample_style="choice"),
        T.RandomCrop("absolute_range", (384, 600)),
        ResizeShortestEdge(sides, 1333, "choice"),
    ]
    return [T.RandomFlip(), OneOf([[ResizeShortestEdge(sides, 1333, "choice")], crop])]


def lsj_augmentations(size: int = 1024, min_scale: float = 0.1, max_scale: float = 2.0) -> Recipe:
    """Large-scale jitter: flip, scale by ``min_scale``-``max_scale``, crop and pad to ``size`` x ``size``."""
    return [
        T.RandomFlip(),
        T.ResizeScale(min_scale=min_scale, max_scale=max_scale, target_height=size, target_width=size),
        T.FixedSizeCrop(crop_size=(size, size), pad=False),
    ]


def semantic_augmentations(
    short_sides: Sequence[int],
    max_size: int,
    crop: Sequence[int],
    category_max_area: float = 0.75,
    flip: bool = True,
    colour: bool = True,
) -> Recipe:
    """The references' training views of semantic segmentation: any short side in a range, a crop of (height,
    width) in which no class covers more than ``category_max_area`` (ten tries), flip, brightness, contrast,
    saturation and hue.

    Args:
        short_sides: the smallest and the largest.
    """
    low, high = short_sides
    recipe: Recipe = [
        ResizeShortestEdge((low, high), max_size, "range"),
        T.RandomCrop_CategoryAreaConstraint(
            "absolute", tuple(crop), category_max_area, ignored_category=IGNORED
        ),
    ]
    if flip:
        recipe.append(T.RandomFlip())
    if colour:
        recipe.append(ColorAugSSDTransform(img_format="RGB"))
    return recipe


def custom_augmentations(
    short_sides: Sequence[int],
    max_size: int,
    flip_vertical: bool = False,
    rot90: bool = False,
    crop: Sequence[int] | None = None,
    colour: bool = True,
    large_scale_jitter: Mapping[str, float] | None = None,
    flip: bool = True,
) -> Recipe:
    """For custom data: a random short side, flips, quarter turns, colour, and a crop of (height,
    width).

    Args:
        large_scale_jitter: arguments of :func:`lsj_augmentations` (``{}`` for its own) to scale and crop by
            instead of ``short_sides`` and ``max_size``.
    """
    recipe: Recipe = [ResizeShortestEdge(tuple(short_sides), max_size, "choice")]
    if large_scale_jitter is not None:
        recipe = lsj_augmentations(**large_scale_jitter)[1:]  # type: ignore[arg-type]
    if flip:
        recipe.append(T.RandomFlip())
    if flip_vertical:
        recipe.append(T.RandomFlip(horizontal=False, vertical=True))
    if rot90:
        recipe.append(T.RandomRotation([0, 90, 180, 270], expand=True, sample_style="choice"))
    if crop is not None:
        recipe.append(T.RandomCrop("absolute", tuple(crop)))
    if colour:
        recipe += [T.RandomBrightness(0.7, 1.3), RandomContrast(0.7, 1.3), RandomSaturation(0.7, 1.3)]
    return recipe


def detectron2_augmentations(
    short_sides: Sequence[int],
    max_size: int,
    sampling: str = "choice",
    flip: str = "horizontal",
    crop_type: str | None = None,
    crop_size: Sequence[float] = (0.9, 0.9),
) -> Recipe:
    """The training views of Detectron2's yacs configs: a crop, a random short side, a flip.

    Args:
        sampling: ``choice`` of the short sides, or any in their ``range``.
        flip: ``horizontal``, ``vertical`` or ``none``.
        crop_type, crop_size: of Detectron2's ``RandomCrop``; None for none.
    """
    recipe: Recipe = [ResizeShortestEdge(tuple(short_sides), max_size, sampling)]
    if crop_type is not None:
        recipe.insert(0, T.RandomCrop(crop_type, tuple(crop_size)))
    if flip != "none":
        recipe.append(T.RandomFlip(horizontal=flip == "horizontal", vertical=flip == "vertical"))
    return recipe


def test_augmentations(short_side: int, max_size: int) -> Recipe:
    """The single view of evaluation."""
    return [ResizeShortestEdge(short_side, max_size)]


test_augmentations.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever its name
