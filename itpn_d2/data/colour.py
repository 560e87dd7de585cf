"""Detectron2's random contrast and saturation, as transforms that keep no image: of the same random numbers
the same pixels."""

from typing import Any

import cv2
import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import BlendTransform, Transform

_GREY = np.array([0.299, 0.587, 0.114])  # of red, green, blue


class RandomContrast(T.RandomContrast):
    """Detectron2's, whose mean of all pixels is taken by OpenCV."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """A blend of the image with its mean, by a weight that is drawn.

        ``image`` is ``(H, W, C)``, of 8 bits or of floats.
        """
        weight = np.random.uniform(self.intensity_min, self.intensity_max)
        summed = image.dtype == np.uint8 and image.flags.c_contiguous
        mean = sum(cv2.sumElems(image)) / image.size if summed else image.mean()
        return BlendTransform(np.float64(mean), 1 - weight, weight)


class RandomSaturation(T.RandomSaturation):
    """Detectron2's, which makes a grey image of floats to blend with."""

    def get_transform(self, image: np.ndarray) -> Transform:
        """A blend of an image ``(H, W, 3)`` with its grey self, by a weight that is drawn.

        Raises:
            ValueError: the image does not have three channels.
        """
        if image.shape[-1] != 3:
            raise ValueError(f"saturation needs three channels, but the image has {image.shape[-1]}")
        return SaturationTransform(np.random.uniform(self.intensity_min, self.intensity_max))


class SaturationTransform(Transform):
    """An image blended with its grey self.

    Args:
        weight: of the image; that of the grey is the rest to 1.
    """

    def __init__(self, weight: float):
        super().__init__()
        self.weight = weight

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """By Detectron2's arithmetic.

        ``(H, W, 3)``, in and out.
        """
        grey = img.dot(_GREY)[..., None]
        return BlendTransform(grey, 1 - self.weight, self.weight).apply_image(img)

    def mixed(self, img: np.ndarray) -> np.ndarray:
        """uint8 ``(H, W, 3)`` by integers, at most 1 from :meth:`apply_image`: each new channel is a sum of
        the three old ones."""
        matrix = (1 - self.weight) * np.tile(_GREY, (3, 1)) + self.weight * np.eye(3)
        # half a step down: OpenCV rounds to the nearest number, Detectron2 cuts off
        return cv2.transform(img, np.hstack((matrix, np.full((3, 1), -0.5))))

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """The same coordinates: nothing moves.

        ``(N, 2)``, x and y in pixels.
        """
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """The same segmentation: labels have no colour.

        ``(H, W)``.
        """
        return segmentation

    def inverse(self) -> Any:
        """There is none.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("the original colours can't be recovered")
