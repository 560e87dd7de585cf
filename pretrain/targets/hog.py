"""Histograms of oriented gradients, the target of FastMIM and of MaskFeat."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import token_grid


class HOG(nn.Module):
    """Unsigned orientation histograms of each colour channel on non-overlapping cells.

    Sobel gradients of the reflect-padded image vote with their magnitude for one of ``bins`` orientations
    of 180/bins degrees each (the nearest below: no interpolation, no window, no block normalisation).

    Args:
        bins: orientations.
        cell: side of a cell in pixels.
        normalise: L2-normalise the bins of each channel and cell (zero cells stay zero).

    Raises:
        ValueError: ``bins`` outside 1 to 180, or ``cell`` below 1.
    """

    name = "hog"

    def __init__(self, bins: int = 9, cell: int = 8, normalise: bool = True, eps: float = 1e-12):
        super().__init__()
        if not 1 <= bins <= 180 or cell < 1:
            raise ValueError(f"bins {bins}, cell {cell}: choose 1 to 180 bins and a positive cell")
        self.bins, self.cell, self.normalise, self.eps = bins, cell, normalise, eps

    def width(self, stride: int) -> int:
        """Values per token of ``stride`` pixels: 108 at stride 16, 432 at stride 32.

        Raises:
            ValueError: ``stride`` is no multiple of the cell.
        """
        if stride % self.cell:
            raise ValueError(f"token stride {stride} is not a multiple of the HOG cell {self.cell}")
        return 3 * self.bins * (stride // self.cell) ** 2

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)``, normalised as the network sees it, to ``(B, 3 * bins, H/cell, W/cell)``.

        Channel ``colour * bins + bin``; float32 whatever the input or autocast say.

        Raises:
            ValueError: H or W is not a multiple of the cell.
        """
        rows, columns = token_grid(image, self.cell)
        # Differences first, then smoothing, in plain additions: a border pixel, whose two neighbours are one
        # pixel after reflection, then gets exactly 0 and not a rounding error of random sign, which would put
        # it into either of two bins. Convolution kernels promise no such order, nor full precision.
        x = F.pad(image.float(), (1, 1, 1, 1), mode="reflect")
        step = x[..., :-2] - x[..., 2:]
        gx = step[..., :-2, :] + 2 * step[..., 1:-1, :] + step[..., 2:, :]
        step = x[..., :-2, :] - x[..., 2:, :]
        gy = step[..., :-2] + 2 * step[..., 1:-1] + step[..., 2:]
        magnitude = (gx.square() + gy.square()).sqrt_()
        # Opposite directions are folded before the angle is taken, and gx = 0 becomes the angle 0: bin 0 for
        # an angle of pi would rely on pi / pi being exactly 1, which not every device's division promises.
        bins = torch.atan2(gx.abs(), gy.mul_(gx.sign())).mul_(self.bins / math.pi).floor_()
        bins = bins.mul_(bins < self.bins).to(torch.uint8)
        # One pass per bin instead of a scatter: its order of summation, and so the result, is fixed.
        shape = (*image.shape[:2], rows, self.cell, columns, self.cell)
        votes = [(magnitude * (bins == k)).reshape(shape).sum(3).sum(-1) for k in range(self.bins)]
        histogram = torch.stack(votes, 2)
        if self.normalise:
            histogram = F.normalize(histogram, dim=2, eps=self.eps)
        return histogram.flatten(1, 2)

    def tokens(self, image: Tensor, stride: int) -> Tensor:
        """``(B, 3, H, W)`` to ``(B, N, width(stride))``: the cells of each token, in (channel, cell row, cell
        column) order."""
        self.width(stride)  # complains about a stride that cells do not fill
        grid, side = token_grid(image, stride), stride // self.cell
        cells = self(image).reshape(len(image), -1, grid[0], side, grid[1], side)
        return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def split(self, tokens: Tensor, stride: int, parts: int) -> Tensor:
        """``(B, N, width)`` to ``(B, N, parts**2, width / parts**2)``: see :class:`.base.Target`.

        Raises:
            ValueError: the cells along a side of a token are no multiple of ``parts``.
        """
        side = stride // self.cell
        if side % parts:
            raise ValueError(f"{side}x{side} cells per token do not divide into {parts}x{parts} squares")
        inner = side // parts
        x = tokens.unflatten(2, (3 * self.bins, parts, inner, parts, inner))
        return x.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)
