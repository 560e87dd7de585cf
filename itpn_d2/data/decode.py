"""Image files to upright 8-bit RGB, with one kind of error for whatever a decoder makes of broken bytes."""

import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from PIL import Image

from ..errors import UseError
from . import recognise
from .decoder import Decoder, decode_jpeg, is_quick
from .members import open_member

MAX_PIXELS = "ITPN_D2_MAX_PIXELS"  # environment variable: the largest image that is read, width times height
_ORIENTATION = 0x0112  # EXIF tag
_TIFF_WIDTH = 256  # tag
# what of a PNG holds its orientation: a block of its own, or texts of these keys
_PNG_TEXTS, _PNG_KEYS = (b"tEXt", b"zTXt", b"iTXt"), (b"Raw profile type exif", b"XML:com.adobe.xmp")
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BrokenImageError(UseError):
    """An image can't be read; the message is the reason, on one line."""


class LargeImageError(BrokenImageError):
    """An image has more pixels than are read; the message says how to raise the limit."""


@contextmanager
def _reasons(path: str = "") -> Iterator[None]:
    # Given arbitrary bytes, decoders raise OSError and SyntaxError as documented, but also ValueError,
    # EOFError, struct.error, zlib.error, NotImplementedError, ...
    try:
        yield
    except BrokenImageError:
        raise
    except Image.DecompressionBombError as error:
        found = re.findall(r"\d+", str(error))  # Pillow's message has the image's pixels, then its limit
        raise _too_large(int(found[0]) if found else 0, _pixel_limit()) from error
    except Image.UnidentifiedImageError as error:
        what = recognise.picture_file(path)
        raise BrokenImageError(what or f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    except Exception as error:
        raise BrokenImageError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _pixel_limit() -> float:
    """The largest number of pixels that an image may have. If ``$ITPN_D2_MAX_PIXELS`` is set, Pillow's own
    limit in this process is set to it as well."""
    given = os.environ.get(MAX_PIXELS)
    if given is None:
        return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS
    if not given.strip().isdecimal():
        raise BrokenImageError(f"the environment variable {MAX_PIXELS}={given} is not a number of pixels")
    limit = int(given)
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit
    return limit


def _too_large(pixels: int, limit: float) -> LargeImageError:
    return LargeImageError(
        f"{pixels:,} pixels exceed the limit of {limit:,.0f}, which protects against files made to "
        "exhaust memory. If the image really is that large, set the environment variable "
        f"{MAX_PIXELS}={pixels} or more, or cut it into tiles"
    )


def _orientation(image: Image.Image) -> int:
    try:
        if image.format == "PNG" and not _png_may_turn(image):
            return 1
        found = image.getexif().get(_ORIENTATION, 1)
        return found if isinstance(found, int) and 1 <= found <= 8 else 1  # others turn nothing anywhere
    except OSError:  # PNG: the pixels are read to look for the block behind them
        raise
    except Exception:  # a damaged EXIF block says nothing against the pixels
        return 1


def _png_may_turn(image: Image.Image) -> bool:
    """Whether a PNG has a block that may hold an orientation. Pillow reads all pixels to look for one behind
    them; a look at the headers of the blocks costs next to nothing."""
    file: IO[bytes] | None = getattr(image, "fp", None)
    if file is None or "exif" in image.info:  # it was read already
        return True
    place = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            kind = head[4:]
            if kind == b"eXIf":
                return True
            taken = min(length, 32) if kind in _PNG_TEXTS else 0
            if taken and file.read(taken).startswith(_PNG_KEYS):
                return True
            file.seek(length - taken + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(place)


@contextmanager
def open_image(path: str) -> Iterator[Image.Image]:
    """The file, or the picture in a tar file (:mod:`.members`), opened but not decoded.

    Raises:
        BrokenImageError: it is missing, not a file (but a pipe, for example) or not an image.
        LargeImageError: it has more pixels than ``$ITPN_D2_MAX_PIXELS``, by default 179 million.
    """
    with _reasons(path):
        member = open_member(path)
        if member is None and not stat.S_ISREG(os.stat(path).st_mode):  # a pipe may take for ever
            raise BrokenImageError("it is not a regular file")
        limit = _pixel_limit()
        image = Image.open(path if member is None else member)
    with image:
        if image.width * image.height > limit:
            raise _too_large(image.width * image.height, limit)
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
        if _orientation(image) < 5 or _size_is_upright(image):
            return width, height
        return height, width


def _size_is_upright(image: Image.Image) -> bool:
    """Whether Pillow turns an image itself as it decodes it: newer versions do that with TIFF."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    return tags is not None and image.width != tags.get(_TIFF_WIDTH)


def turned(image: Image.Image) -> bool:
    """Whether EXIF asks for a quarter turn: the pixels are stored with width and height exchanged.

    Raises:
        BrokenImageError: PNG pixels are broken.
    """
    with _reasons():
        return _orientation(image) >= 5


def decode(image: Image.Image, reduction: float = 1.0) -> Image.Image:
    """Upright RGB, 8 bits a channel. Transparent parts show white.

    Args:
        reduction: how much smaller the result may be. JPEG is decoded at 1/2, 1/4 or 1/8 of its size where
            that is allowed, which saves most of the time for camera pictures; others come whole.

    Raises:
        BrokenImageError: the pixels can't be read.
    """
    with _reasons():
        if image.format == "TIFF":  # newer versions of Pillow turn it now, and say that it lies upright then
            image.load()
        turn = _TO_UPRIGHT.get(_orientation(image))
        if reduction >= 2:
            image.draft(None, (math.ceil(image.width / reduction), math.ceil(image.height / reduction)))
        pixels = _rgb(image)
        return pixels if turn is None else pixels.transpose(turn)


def pixels(image: Image.Image, decoder: Decoder = "auto", reduction: float = 1.0) -> np.ndarray:
    """As :func:`decode`, as an array uint8 ``(H, W, 3)``, by the libraries that ``decoder`` names.

    Raises:
        BrokenImageError: the pixels can't be read. ConfigError: see :func:`.is_quick`.
    """
    if is_quick(decoder):
        with _reasons():
            found = decode_jpeg(image, reduction) if _orientation(image) == 1 else None
        if found is not None:
            return found
    return np.asarray(decode(image, reduction))


def stored_numbers(image: Image.Image) -> np.ndarray:
    """The pixels as the file has them, not turned: ``(H, W)`` indices of a palette or numbers of one channel,
    ``(H, W, 3)`` of RGB.

    Raises:
        BrokenImageError: the pixels can't be read, or have other channels.
    """
    with _reasons():
        if image.mode not in ("1", "L", "P", "RGB") and not image.mode.startswith("I"):
            raise BrokenImageError(f"its pixels are {image.mode}, neither a single channel nor RGB")
        return np.array(image)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits; "I" is what some formats and versions make of them
        wide = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        image = Image.fromarray((wide >> 8).astype(np.uint8))
    elif image.mode == "F":
        real = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=255.0, neginf=0.0)
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
