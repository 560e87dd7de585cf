"""Random brightness, contrast and saturation of a picture."""

import numpy as np
from PIL import Image, ImageEnhance

_KINDS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
_NAMES = ("brightness", "contrast", "saturation")


class ColourJitter:
    """The three in random order, each by a factor from a range around 1 (as torchvision's ColorJitter without
    hue, which the references of pre-training do not change).

    Args:
        strength: s: factors are uniform in [max(0, 1 - s), 1 + s]; one number for all, or three for
            brightness, contrast and saturation.

    Raises:
        ValueError: a strength is negative, or there are neither one nor three.
    """

    def __init__(self, strength: float | tuple[float, float, float]):
        given = (strength,) * 3 if isinstance(strength, (int, float)) else tuple(strength)
        if len(given) != 3 or any(s < 0 for s in given):
            raise ValueError(
                f"colour_jitter={strength}: one number, or three ({', '.join(_NAMES)}), each at least 0"
            )
        self.ranges = [(max(0.0, 1 - s), 1 + s) for s in given]

    def draw(self, random: np.random.Generator) -> list[tuple[int, float]]:
        """(number of the kind, factor) in the order in which they are applied."""
        factors = [float(random.uniform(*bounds)) for bounds in self.ranges]
        return [(int(kind), factors[kind]) for kind in random.permutation(3)]

    def __call__(self, picture: Image.Image, random: np.random.Generator) -> Image.Image:
        """``picture`` is RGB; contrast is relative to its mean grey."""
        for kind, factor in self.draw(random):
            if self.ranges[kind] != (1.0, 1.0):
                picture = _KINDS[kind](picture).enhance(factor)
        return picture
