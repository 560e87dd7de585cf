"""The one reader of pictures, whatever they are given as: training, evaluation, drawing and prediction see
the same upright 8-bit RGB."""

import os
from typing import Literal

import numpy as np
from PIL import Image

from .decode import BrokenImageError, decode, open_image, pixels
from .decoder import Decoder

Source = str | os.PathLike | np.ndarray | Image.Image
ChannelOrder = Literal["BGR", "RGB"]


def read_image(source: Source, order: ChannelOrder = "BGR", decoder: Decoder = "auto") -> np.ndarray:
    """RGB uint8 ``(H, W, 3)``.

    Args:
        source: a path, a Pillow image, or an array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W,
            4)``: of uint8, of uint16 (the upper 8 bits stay), of bool, or of floats in 0..1 or 0..255.
            Files and Pillow images are turned as their EXIF block asks; transparent parts show white.
        order: of the channels of arrays; those of OpenCV and Detectron2 are BGR.
        decoder: the library that decodes files; see :mod:`.decoder`.

    Raises:
        BrokenImageError: it can't be read, or has no pixels; the message is the reason, on one line.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, order)
    if isinstance(source, Image.Image):
        return _whole(source, decoder)
    if isinstance(source, str | os.PathLike):
        with open_image(os.fspath(source)) as image:
            return _whole(image, decoder)
    raise BrokenImageError(
        "an image must be a path, a Pillow image or an array (H, W, 3), but this is "
        f"{type(source).__name__}; did reading it fail?"
    )


def _whole(image: Image.Image, decoder: Decoder) -> np.ndarray:
    if min(image.size) < 1:
        raise BrokenImageError(f"no pixels: {image.width}x{image.height}")
    return pixels(image, decoder)


def _from_array(array: np.ndarray, order: ChannelOrder) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise BrokenImageError(
            f"an image array must have the shape (H, W) or (H, W, 1, 3 or 4), but this one has {array.shape}"
        )
    if not array.size:
        raise BrokenImageError(f"no pixels: shape {array.shape}")
    values = _eight_bits(array.reshape(*array.shape[:2], channels))
    if order == "BGR" and channels >= 3:
        values = values[..., [2, 1, 0, 3][:channels]]
    picture = Image.fromarray(np.ascontiguousarray(values[..., 0] if channels == 1 else values))
    return np.asarray(decode(picture))


def _eight_bits(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise BrokenImageError("the array contains nan or infinite values")
        scale = 255.0 if array.max() <= 1 else 1.0
        return np.clip(array * scale, 0, 255).astype(np.uint8)
    if np.issubdtype(array.dtype, np.integer) and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    raise BrokenImageError(
        f"pixels of {array.dtype} from {array.min()} to {array.max()}: give uint8, uint16, bool or floats"
    )
