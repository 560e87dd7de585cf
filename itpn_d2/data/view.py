"""An image with its label image under augmentations, with the time-consuming ones done by quicker code."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from fvcore.transforms.transform import (
    BlendTransform,
    HFlipTransform,
    Transform,
    TransformList,
    VFlipTransform,
)

from .colour import SaturationTransform
from .decoder import Decoder, can_resize, is_quick, planes, resize


class View(T.AugInput):
    """Detectron2's ``AugInput``. Under a ``decoder`` other than ``pillow`` 8-bit colour images are
    resized by torchvision, at most 2 of 255 from Pillow's result, and mirrored and blended with one number by
    OpenCV, which gives the same pixels. Coordinates and label images are transformed as ever.

    Args:
        image: ``(H, W, C)``.
        sem_seg: ``(H, W)``, the label image.
    """

    image: np.ndarray
    sem_seg: np.ndarray | None

    def __init__(self, image: np.ndarray, *, sem_seg: np.ndarray | None = None, decoder: Decoder = "auto"):
        super().__init__(image, sem_seg=sem_seg)
        self.quick = is_quick(decoder)

    def transform(self, tfm: Transform) -> None:
        """Apply a transform to image and labels."""
        if isinstance(tfm, TransformList):
            for part in tfm.transforms:
                self.transform(part)
            return
        quick = _QUICK.get(type(tfm)) if self.quick else None
        found = None if quick is None else quick(tfm, self.image)
        self.image = tfm.apply_image(self.image) if found is None else found
        if self.sem_seg is not None:
            self.sem_seg = tfm.apply_segmentation(self.sem_seg)

    def tensor(self) -> torch.Tensor:
        """The image ``(C, H, W)``, contiguous."""
        image = self.image
        if self.quick and _is_colour(image):
            return torch.from_numpy(planes(image))
        return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _is_colour(image: np.ndarray) -> bool:
    return image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def _resized(tfm: Any, image: np.ndarray) -> np.ndarray | None:
    fits = min(tfm.new_h, tfm.new_w) > 0 and can_resize(image, tfm.interp)
    return resize(image, int(tfm.new_h), int(tfm.new_w), tfm.interp) if fits else None


def _mirrored(tfm: Any, image: np.ndarray) -> np.ndarray | None:
    axis = 1 if isinstance(tfm, HFlipTransform) else 0
    return cv2.flip(image, axis) if _is_colour(image) else None


def _blended(tfm: Any, image: np.ndarray) -> np.ndarray | None:
    """With one number, what becomes of a pixel depends on its value alone."""
    if not _is_colour(image) or np.size(tfm.src_image) != 1:
        return None
    table = tfm.apply_image(np.arange(256, dtype=np.uint8))
    return cv2.LUT(image, table)


def _saturated(tfm: Any, image: np.ndarray) -> np.ndarray | None:
    return tfm.mixed(image) if _is_colour(image) else None


_QUICK: dict[type, Callable[[Any, np.ndarray], np.ndarray | None]] = {
    T.ResizeTransform: _resized,
    HFlipTransform: _mirrored,
    VFlipTransform: _mirrored,
    BlendTransform: _blended,
    SaturationTransform: _saturated,
}
