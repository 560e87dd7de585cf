"""The interfaces of regression targets and teachers."""

from typing import Protocol

from torch import Tensor, nn


class Target(Protocol):
    """Values to regress for each token of ``stride`` x ``stride`` pixels."""

    name: str

    def width(self, stride: int) -> int:
        """Values per token."""

    def tokens(self, image: Tensor, stride: int) -> Tensor:
        """Normalised image ``(B, 3, H, W)`` to ``(B, N, width(stride))`` without gradient, N row-major."""

    def split(self, tokens: Tensor, stride: int, parts: int) -> Tensor:
        """The values of ``(B, N, width)`` by the ``parts`` x ``parts`` squares of a token they lie in:
        ``(B, N, parts * parts, width / parts**2)``, squares row-major."""


class Teacher(nn.Module):
    """A frozen network whose tokens are the target: RGB in 0..255 ``(B, 3, *image_size)`` to ``(B, N, dim)``.

    Attributes:
        dim: values per token.
        image_size: height and width in pixels that it takes.
    """

    dim: int
    image_size: tuple[int, int]


def token_grid(image: Tensor, stride: int) -> tuple[int, int]:
    """Rows and columns of tokens; ValueError if ``(B, C, H, W)`` does not cut into them."""
    height, width = image.shape[-2:]
    if height % stride or width % stride:
        raise ValueError(f"image size {height}x{width} is not a multiple of the token stride {stride}")
    return height // stride, width // stride
