"""Views: the part of an image that a model sees. Views take Pillow images, decoded or only opened."""

import math

import cv2
import numpy as np
import torch
from PIL import Image

from itpn_d2.data.decode import decode, upright_size
from itpn_d2.data.decode import pixels as decoded
from itpn_d2.data.decoder import Decoder, can_resize, is_quick, planes, resize

from .colour import ColourJitter

Picture = Image.Image | np.ndarray
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the upright image
_INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# keep a view's crops and colours apart from each other and from the sampler's numbers, of the same seed
_STREAM, _COLOUR_STREAM = 1, 2
_REDUCING_GAP = 2.0  # a JPEG is decoded smaller only to at least this many times the size of the result


def _interpolation(name: str) -> Image.Resampling:
    if name not in _INTERPOLATIONS:
        raise ValueError(f"interpolation {name!r}: choose from {', '.join(_INTERPOLATIONS)}")
    return _INTERPOLATIONS[name]


def _check_size(**sizes: int | None) -> None:
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ValueError(f"{name}={size}: at least 1 pixel")


def _decode_for(image: Image.Image, box: Box, size: int, decoder: Decoder) -> tuple[Picture, Box]:
    """The pixels, with as many as ``box`` at ``size`` x ``size`` needs, and the box in their coordinates."""
    width, height = upright_size(image)
    reduction = min(box[2] - box[0], box[3] - box[1]) / (_REDUCING_GAP * size)
    pixels: Picture = decoded(image, decoder, reduction) if is_quick(decoder) else decode(image, reduction)
    columns, rows = pixels.shape[1::-1] if isinstance(pixels, np.ndarray) else pixels.size
    if (columns, rows) == (width, height):
        return pixels, box
    x, y = columns / width, rows / height
    return pixels, (box[0] * x, box[1] * y, min(box[2] * x, columns), min(box[3] * y, rows))


def _cut(pixels: Picture, box: Box, size: int, how: Image.Resampling, flip: bool = False) -> torch.Tensor:
    """``box``, antialiased, as uint8 ``(3, size, size)``. A box of whole pixels is cut out first, as
    torchvision's RandomResizedCrop does: what is beside it does not reach into the view."""
    whole = all(side == int(side) for side in box)
    left, top, right, bottom = (int(side) for side in box)
    if isinstance(pixels, np.ndarray) and whole and can_resize(pixels, how):
        view = resize(pixels[top:bottom, left:right], size, size, how)
        return torch.from_numpy(planes(cv2.flip(view, 1) if flip else view))
    picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    if whole:
        picture, box = picture.crop((left, top, right, bottom)), (0, 0, right - left, bottom - top)
    # Pillow's filters widen with the reduction, so this is the antialiased resize.
    picture = picture.resize((size, size), how, box=box)
    if flip:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return torch.from_numpy(planes(np.array(picture)))


class TrainView:
    """A random crop of random shape, flipped half of the time, resized to a square; with a teacher, it gets
    the same crop and flip at its own size.

    All randomness comes from ``seed`` and the position in the sequence of samples: the same for any number of
    workers or processes, and after a resume. At another ``size``, and with or without colours, the same crops
    are drawn.

    Args:
        size: side of the view in pixels.
        scale: range of the crop's share of the image's area.
        ratio: range of the crop's width / height.
        flip: mirror every other crop.
        interpolation: nearest, bilinear, bicubic or lanczos.
        teacher_size: side of the teacher's view, None for none.
        teacher_interpolation: that of the teacher's view.
        colour_jitter: strength of :class:`.ColourJitter` on the whole image, before the crop, so that both
            views have the same colours (iTPN: .4); 0 for none.
        decoder: the library that decodes and resizes; see :mod:`itpn_d2.data.decoder`.

    Raises:
        ValueError: a size below 1 pixel, ``scale`` not ascending within (0, 1], ``ratio`` not ascending above
            0, or an unknown interpolation.
    """

    def __init__(
        self,
        size: int = 224,
        scale: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        interpolation: str = "bicubic",
        teacher_size: int | None = None,
        teacher_interpolation: str = "bicubic",
        seed: int = 0,
        colour_jitter: float | tuple[float, float, float] = 0.0,
        decoder: Decoder = "auto",
    ):
        _check_size(size=size, teacher_size=teacher_size)
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale={tuple(scale)}: needs 0 < low <= high <= 1")
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f"ratio={tuple(ratio)}: needs 0 < low <= high")
        self.size, self.teacher_size = size, teacher_size
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])  # whatever sequences they were
        self.flip, self.seed = flip, seed
        self.interpolation = _interpolation(interpolation)
        self.teacher_interpolation = _interpolation(teacher_interpolation)
        is_quick(decoder)
        self.decoder: Decoder = decoder
        jitter = ColourJitter(colour_jitter)
        self.jitter = None if all(bounds == (1, 1) for bounds in jitter.ranges) else jitter

    def _random(self, position: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed & 0xFFFFFFFF, position, stream])

    def draw(self, width: int, height: int, position: int) -> tuple[Box, bool]:
        """The crop of an image of ``width`` x ``height`` pixels, and whether to mirror it."""
        rng = self._random(position, _STREAM)
        flip = self.flip and bool(rng.random() < 0.5)
        for _ in range(10):  # as torchvision's RandomResizedCrop: ten tries, then the largest crop that fits
            area = width * height * rng.uniform(*self.scale)
            shape = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < w <= width and 0 < h <= height:
                left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
                return (float(left), float(top), float(left + w), float(top + h)), flip
        shape = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = max(1, min(width, round(height * shape))), max(1, min(height, round(width / shape)))
        left, top = (width - w) // 2, (height - h) // 2
        return (float(left), float(top), float(left + w), float(top + h)), flip

    def __call__(self, image: Image.Image, position: int = 0) -> dict[str, torch.Tensor]:
        """``image`` uint8 ``(3, size, size)``, and ``teacher_image`` with a ``teacher_size``.

        Raises:
            BrokenImageError: the pixels can't be read.
        """
        box, flip = self.draw(*upright_size(image), position)
        pixels, box = _decode_for(image, box, max(self.size, self.teacher_size or 0), self.decoder)
        if self.jitter is not None:
            picture = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
            coloured = self.jitter(picture, self._random(position, _COLOUR_STREAM))
            pixels = np.asarray(coloured) if isinstance(pixels, np.ndarray) else coloured
        views = {"image": _cut(pixels, box, self.size, self.interpolation, flip)}
        if self.teacher_size is not None:
            views["teacher_image"] = _cut(pixels, box, self.teacher_size, self.teacher_interpolation, flip)
        return views


class TestView:
    """The square in the middle, of ``crop_fraction`` of the short side, resized to ``size`` pixels: what
    resizing the short side to ``size / crop_fraction`` and cropping gives, in one step.

    Raises:
        ValueError: ``size`` below 1 pixel, ``crop_fraction`` outside (0, 1], or an unknown interpolation.
    """

    __test__ = False  # not a test, whatever its name

    def __init__(
        self,
        size: int = 224,
        crop_fraction: float = 0.875,
        interpolation: str = "bicubic",
        decoder: Decoder = "auto",
    ):
        _check_size(size=size)
        if not 0 < crop_fraction <= 1:
            raise ValueError(f"crop_fraction={crop_fraction}: needs 0 < crop_fraction <= 1")
        self.size, self.crop_fraction = size, crop_fraction
        self.interpolation = _interpolation(interpolation)
        is_quick(decoder)
        self.decoder: Decoder = decoder

    def __call__(self, image: Image.Image, position: int = 0) -> dict[str, torch.Tensor]:
        """``image`` uint8 ``(3, size, size)``; the position does not matter.

        Raises:
            BrokenImageError: the pixels can't be read.
        """
        width, height = upright_size(image)
        side = self.crop_fraction * min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        pixels, box = _decode_for(image, (left, top, left + side, top + side), self.size, self.decoder)
        return {"image": _cut(pixels, box, self.size, self.interpolation)}
