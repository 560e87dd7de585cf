"""Pixels of each token, normalised per token as in MAE."""

import torch
from torch import Tensor, nn

from .base import token_grid


class Pixels(nn.Module):
    """The pixels of each token in (row, column, channel) order.

    Args:
        normalise: subtract each token's mean and divide by its standard deviation (unbiased variance).
    """

    name = "pixels"

    def __init__(self, normalise: bool = True, eps: float = 1e-6):
        super().__init__()
        self.normalise, self.eps = normalise, eps

    def width(self, stride: int) -> int:
        """Values per token of ``stride`` pixels."""
        return 3 * stride * stride

    @torch.no_grad()
    def tokens(self, image: Tensor, stride: int) -> Tensor:
        """Normalised image ``(B, 3, H, W)`` to float32 ``(B, N, 3 * stride**2)``.

        Raises:
            ValueError: H or W is not a multiple of the stride.
        """
        grid = token_grid(image, stride)
        cut = image.float().reshape(len(image), -1, grid[0], stride, grid[1], stride)
        values = cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        if not self.normalise:
            return values
        variance, mean = torch.var_mean(values, -1, keepdim=True)
        return (values - mean) / (variance + self.eps).sqrt()

    def split(self, tokens: Tensor, stride: int, parts: int) -> Tensor:
        """``(B, N, width)`` to ``(B, N, parts**2, width / parts**2)``: see :class:`.base.Target`.

        Raises:
            ValueError: ``stride`` is no multiple of ``parts``.
        """
        if stride % parts:
            raise ValueError(f"tokens of {stride} pixels do not divide into {parts}x{parts} squares")
        inner = stride // parts
        x = tokens.unflatten(2, (parts, inner, parts, inner, 3))
        return x.permute(0, 1, 2, 4, 3, 5, 6).flatten(4).flatten(2, 3)
