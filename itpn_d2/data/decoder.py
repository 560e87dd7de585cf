"""Which library decodes and resizes pictures, and torchvision's side of both.

``pillow``: Pillow, as Detectron2 does. ``torchvision``: its JPEG decoder and its resizing of 8-bit pixels,
which are quicker (`tools/benchmark.py loader`); an error of use where this build has no decoder. ``auto``:
torchvision where it has one. Under all three Pillow does what torchvision does otherwise or worse: decoding
anything but JPEG of RGB or grey (a damaged PNG ends the process there), turning, decoding JPEG smaller, other
filters than bilinear and bicubic. Decoded pixels are Pillow's; resized ones at most 2 of 255 from them
(bicubic ones from those of Pillow before 13, which always went along rows first).
"""

from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import io
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from ..errors import ConfigError

Decoder = Literal["auto", "pillow", "torchvision"]
DECODERS = ("auto", "pillow", "torchvision")
_SIDES = {
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
}


def has_jpeg() -> bool:
    """Whether this build of torchvision decodes JPEG."""
    return hasattr(torch.ops.image, "decode_jpeg")


def by_torchvision(decoder: Decoder) -> bool:
    """Whether ``decoder`` stands for torchvision here.

    Raises:
        ConfigError: it is none of the three, or torchvision was asked for and can't decode.
    """
    if decoder not in DECODERS:
        raise ConfigError(f"dataloader.decoder={decoder!r}: choose {', '.join(DECODERS)}")
    if decoder == "torchvision" and not has_jpeg():
        raise ConfigError(
            "dataloader.decoder=torchvision: this build of torchvision has no JPEG decoder; choose auto or "
            "pillow, or install a wheel of torchvision"
        )
    return decoder != "pillow" and has_jpeg()


def decode_jpeg(image: Image.Image) -> np.ndarray | None:
    """RGB ``(H, W, 3)`` of a picture that was opened but not read, not turned; None where it is no JPEG of
    RGB or grey, or is damaged: that is for Pillow to say."""
    file = getattr(image, "fp", None)
    if image.format != "JPEG" or image.mode not in ("RGB", "L") or file is None:
        return None
    place = file.tell()
    try:
        file.seek(0)
        data = bytearray(file.read())
    finally:
        file.seek(place)
    try:
        pixels = io.decode_jpeg(torch.frombuffer(data, dtype=torch.uint8), io.ImageReadMode.RGB)
    except (RuntimeError, ValueError):
        return None
    found = pixels.permute(1, 2, 0).numpy()  # a view: rows of pixels is how they are stored
    return found if found.shape[1::-1] == image.size else None


def can_resize(pixels: np.ndarray, how: int) -> bool:
    """Whether :func:`resize` does what Pillow does: of 8-bit colour, bilinear and bicubic."""
    return pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and how in _SIDES


def resize(pixels: np.ndarray, height: int, width: int, how: int = Image.Resampling.BILINEAR) -> np.ndarray:
    """``pixels`` uint8 ``(H, W, 3)`` at another size, antialiased.

    Args:
        how: Pillow's number of a filter.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    if not pixels.flags.writeable or any(step < 0 for step in pixels.strides):  # torch takes neither
        pixels = pixels.copy()
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    found = functional.resize(planes, [height, width], _SIDES[Image.Resampling(how)], antialias=True)
    return found.permute(1, 2, 0).numpy()


def planes(pixels: np.ndarray) -> np.ndarray:
    """uint8 ``(H, W, 3)`` as ``(3, H, W)``, contiguous; quicker than a copy of the transpose."""
    found = np.empty((3, *pixels.shape[:2]), np.uint8)
    cv2.split(pixels, list(found))
    return found
