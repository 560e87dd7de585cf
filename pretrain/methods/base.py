"""The interface that all methods share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from itpn_d2.layers import everywhere
from itpn_d2.normalisation import IMAGENET


class Method(nn.Module):
    """A batch in, a dict of losses out; their sum is what is minimised.

    A batch has ``image`` ``(B, 3, H, W)``, uint8 or float RGB in 0..255; each method documents what else it
    may contain.

    Args:
        pixel_mean, pixel_std: of RGB in 0..255; what the network sees is (image - mean) / std.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, pixel_mean: Sequence[float] = IMAGENET.mean, pixel_std: Sequence[float] = IMAGENET.std
    ):
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(1, 3, 1, 1), persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` uint8 or float RGB in 0..255 to float32 as the network sees it."""
        return (image.float() - self.pixel_mean) / self.pixel_std

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Losses by name, each a scalar."""
        raise NotImplementedError

    def predict(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The data for a picture of the method.

        Returns:
            ``image`` as given, ``mask`` ``(B, rows, columns)`` bool, ``prediction`` and ``target`` ``(B, N,
            C)``, ``stride`` in pixels, ``kind``: pixels, hog or features.
        """
        raise NotImplementedError

    def set_input_size(self, size: tuple[int, int]) -> list[str]:
        """Follow a change of the image size in (height, width); names of parameters that are new objects."""
        return []

    def after_step(self, epoch: float) -> None:
        """Called after every optimizer step with the epochs done so far."""


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``error`` over the True places of ``mask``, of its shape, in the batches of all processes; 0 if
    there are none."""
    return (error * mask).sum() / everywhere(mask.sum()).clamp(min=1).to(error.dtype)
