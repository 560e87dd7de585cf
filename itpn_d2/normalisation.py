"""The statistics by which images are normalised."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageStatistics:
    """What images are normalised by: (image - mean) / std, of RGB in 0..255."""

    name: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = ImageStatistics("ImageNet", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
HALVES = ImageStatistics("0.5", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
