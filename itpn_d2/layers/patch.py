"""Patch embedding, merging and splitting: linear layers over the cell moves of :mod:`.units`."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .units import image_to_cells, merge_cells, split_cells


class PatchEmbed(nn.Module):
    """``(B, C, H, W) -> (B, H/size, W/size, dim)``: a convolution whose kernel equals its stride, as a linear
    layer.

    ``norm_eps`` adds the LayerNorm that follows it in iTPN v1; Fast-iTPN has none.
    """

    def __init__(self, in_channels: int, dim: int, size: int = 4, norm_eps: float | None = None):
        super().__init__()
        self.size = size
        self.proj = nn.Linear(in_channels * size * size, dim)
        self.norm = nn.Identity() if norm_eps is None else nn.LayerNorm(dim, eps=norm_eps)

    def project(self, cells: Tensor) -> Tensor:
        """The cells of :func:`~itpn_d2.layers.units.image_to_cells`, all or a part of them, ``(...,
        C*size*size)`` to ``(..., dim)``."""
        return self.norm(self.proj(cells))

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, H/size, W/size, dim)``."""
        return self.project(image_to_cells(image, self.size))


class PatchMerge(nn.Module):
    """Halve the resolution: ``(..., 2h, 2w, C) -> (..., h, w, out)``: LayerNorm and a 2x2 stride-2 product.

    ``joint_norm`` takes the norm over the four joined cells and leaves out the bias (iTPN v1); otherwise the
    norm is per cell (Fast-iTPN).
    """

    def __init__(self, dim: int, out_dim: int, norm_eps: float = 1e-6, joint_norm: bool = False):
        super().__init__()
        self.joint_norm = joint_norm
        self.norm = nn.LayerNorm(4 * dim if joint_norm else dim, eps=norm_eps)
        self.reduction = nn.Linear(4 * dim, out_dim, bias=not joint_norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., 2h, 2w, C)`` to ``(..., h, w, out)``."""
        x = self.norm(merge_cells(x)) if self.joint_norm else merge_cells(self.norm(x))
        return self.reduction(x)


class PatchSplit(nn.Module):
    """Double the resolution: ``(..., h, w, C) -> (..., 2h, 2w, out)``; LayerNorm, then a 2x2 stride-2
    transposed product.

    The bias belongs to an output channel and is shared by the four cells (transposed convolution of
    Fast-iTPN); ``bias=False`` is the v1 form.
    """

    def __init__(self, dim: int, out_dim: int, bias: bool = True, norm_eps: float = 1e-6):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.reduction = nn.Linear(dim, 4 * out_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``(..., h, w, C)`` to ``(..., 2h, 2w, out)``."""
        # within the product the bias needs no pass of its own over the largest maps, nor a cast for autocast
        bias = None if self.bias is None else self.bias.repeat(4)
        return split_cells(F.linear(self.norm(x), self.reduction.weight, bias))
