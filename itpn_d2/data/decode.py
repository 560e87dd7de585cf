"""Image files to upright 8-bit RGB, with one kind of error for whatever a decoder makes of broken bytes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112  # EXIF tag
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BrokenImageError(Exception):
    """An image can't be read; the message is the reason, on one line."""


@contextmanager
def _reasons() -> Iterator[None]:
    # Given arbitrary bytes, decoders raise OSError and SyntaxError as documented, but also ValueError,
    # EOFError, struct.error, zlib.error, NotImplementedError, ... and DecompressionBombError.
    try:
        yield
    except BrokenImageError:
        raise
    except Exception as error:
        raise BrokenImageError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except OSError:  # PNG: the pixels are read to look for the block behind them
        raise
    except Exception:  # a damaged EXIF block says nothing against the pixels
        return 1


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """The file, opened but not decoded.

    Raises:
        BrokenImageError: it is missing, no image, or claims a size that only an attack would have.
    """
    with _reasons():
        image = Image.open(path)
    with image:
        yield image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) in pixels after the turn that EXIF asks for.

    Raises:
        BrokenImageError: the image has no pixels, or PNG pixels are broken.
    """
    with _reasons():
        width, height = image.size
        if width < 1 or height < 1:
            raise BrokenImageError(f"no pixels: {width}x{height}")
        return (height, width) if _orientation(image) >= 5 else (width, height)


def decode(image: Image.Image, reduction: float = 1.0) -> Image.Image:
    """Upright RGB, 8 bits a channel. Transparent parts show white.

    Args:
        reduction: how much smaller the result may be. JPEG is decoded at 1/2, 1/4 or 1/8 of its size where
            that is allowed, which saves most of the time for camera pictures; others come whole.

    Raises:
        BrokenImageError: the pixels can't be read.
    """
    with _reasons():
        turn = _TO_UPRIGHT.get(_orientation(image))
        if reduction >= 2:
            image.draft(None, (math.ceil(image.width / reduction), math.ceil(image.height / reduction)))
        pixels = _rgb(image)
        return pixels if turn is None else pixels.transpose(turn)


def stored_numbers(image: Image.Image) -> np.ndarray:
    """The pixels as the file has them, not turned: ``(H, W)`` indices of a palette or numbers of one channel,
    ``(H, W, 3)`` of RGB.

    Raises:
        BrokenImageError: the pixels can't be read, or have other channels.
    """
    with _reasons():
        if image.mode not in ("1", "L", "P", "RGB") and not image.mode.startswith("I"):
            raise BrokenImageError(f"its pixels are {image.mode}: neither one number nor RGB")
        return np.array(image)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; "I" is what some formats and versions make of them
        wide = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    elif image.mode == "F":
        real = np.asarray(image, dtype=np.float32)
        real = real * 255 if real.max() <= 1 else real
        image = Image.fromarray(np.clip(real, 0, 255).astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        above = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(above)
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")
