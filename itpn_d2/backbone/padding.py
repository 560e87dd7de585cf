"""Padding an image batch to a size that the trunk can divide into patches."""

from torch import Tensor
from torch.nn import functional as F

from ..layers.recording import is_stand_in


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Zero-pad ``(B, C, H, W)`` at the right and bottom to multiples of ``multiple``."""
    h, w = images.shape[-2:]
    bottom, right = -h % multiple, -w % multiple
    return F.pad(images, (0, right, 0, bottom)) if is_stand_in(images) or bottom or right else images
