"""Which libraries decode and resize pictures, and the quicker ones' side of both.

``pillow``: Pillow, as Detectron2 does. ``auto`` and ``torchvision``: JPEG by libjpeg-turbo (simplejpeg), and
pictures of 8 bits are resized by torchvision, which is quicker (`tools/benchmark.py loader`). Pillow then
does what these do otherwise or not at all: decoding anything but JPEG of RGB or grey, or a damaged one,
turning, and other filters than bilinear and bicubic. Decoded pixels are Pillow's; resized ones at most 2 of
255 from them (bicubic ones from those of Pillow before 13, which always went along rows first).
"""

import math
from typing import Literal

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from ..errors import ConfigError

Decoder = Literal["auto", "pillow", "torchvision"]
DECODERS = ("auto", "pillow", "torchvision")
_SIDES = {
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
}


def is_quick(decoder: Decoder) -> bool:
    """Whether ``decoder`` stands for the quicker libraries.

    Raises:
        ConfigError: it is none of the three.
    """
    if decoder not in DECODERS:
        raise ConfigError(f"dataloader.decoder={decoder!r}: choose {', '.join(DECODERS)}")
    return decoder != "pillow"


def decode_jpeg(image: Image.Image, reduction: float = 1.0) -> np.ndarray | None:
    """RGB ``(H, W, 3)`` of a picture that was opened but not read, not turned; None where it is no JPEG of
    RGB or grey, or is damaged: that is for Pillow to say.

    Args:
        reduction: how much smaller the result may be; the size is Pillow's for the same number.
    """
    file = getattr(image, "fp", None)
    if image.format != "JPEG" or image.mode not in ("RGB", "L") or file is None:
        return None
    divisor = _divisor(*image.size, reduction)
    if divisor > 1 and max(image.size) < 8:  # several of the sizes it can make are the same number of pixels
        return None
    width, height = (math.ceil(side / divisor) for side in image.size)
    place = file.tell()
    try:
        file.seek(0)
        data = file.read()
    finally:
        file.seek(place)
    try:
        # it makes the smallest of the picture's eighths that is not below these; 0: the whole
        least = (height, width) if divisor > 1 else (0, 0)
        found = simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1])
    except ValueError:
        return None
    return found if found.shape == (height, width, 3) else None


def _divisor(width: int, height: int, reduction: float) -> int:
    """By how much Pillow divides the sides of a JPEG where its result may be ``reduction`` times smaller."""
    if reduction < 2:
        return 1
    allowed = min(side // math.ceil(side / reduction) for side in (width, height))
    return next(n for n in (8, 4, 2, 1) if n <= allowed)


def can_resize(pixels: np.ndarray, how: int) -> bool:
    """Whether :func:`resize` does what Pillow does: of 8-bit colour, bilinear and bicubic.

    ``pixels`` is ``(H, W, C)``, ``how`` one of Pillow's filters.
    """
    return pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and how in _SIDES


def resize(pixels: np.ndarray, height: int, width: int, how: int = Image.Resampling.BILINEAR) -> np.ndarray:
    """``pixels`` uint8 ``(H, W, 3)`` at another size, antialiased.

    Args:
        how: Pillow's number of a filter.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    # torch needs positive strides and a writable array. Without the copy, a crop that is a view would come
    # back stored channel by channel, which slows down mirroring and splitting.
    pixels = np.require(pixels, requirements=["C", "W"])
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    found = functional.resize(planes, [height, width], _SIDES[Image.Resampling(how)], antialias=True)
    return found.permute(1, 2, 0).numpy()


def planes(pixels: np.ndarray) -> np.ndarray:
    """uint8 ``(H, W, 3)`` as ``(3, H, W)``, contiguous; quicker than a copy of the transpose."""
    found = np.empty((3, *pixels.shape[:2]), np.uint8)
    cv2.split(pixels, list(found))
    return found
