"""The integral pyramid: the feature pyramid that is pre-trained together with the trunk (iTPN, CVPR'23)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import PatchSplit, in_stripes
from ..layers.units import tiles
from .blocks import MlpBlock
from .checkpointing import Block
from .checks import check_positive, check_sizes

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64, "p7": 128}


class IntegralPyramid(nn.Module):
    """Trunk maps at strides 4, 8, 16 to maps of ``fpn_dim`` channels, p2..p7 (strides 4..128).

    No layer mixes two 16x16 units: laterals are linear, up-sampling is LN + a 2x2 product, blocks are MLPs.
    p5 and p6 are 2x2 average pools of p4 and p5 (floor), as in the v1 detection backbone; so is p7 of p6
    (ours, for detectors that leave p2 out).

    The segmentation form (``concat_trunk``) is that of v1's segmentors: every level carries the trunk's map
    of that stride behind its own channels, and p5, p6 and p7 (the last two are ours) are maximum
    pools. It has no parameters of its own.

    Args:
        channels: width of the trunk's three stages.
        fpn_dim: width of every output; if it equals ``channels[2]`` there is no ``align_p4``.
        fpn_depth: blocks after each top-down addition.
        mlp_ratio: hidden width over ``fpn_dim``, floored (8/3 in Fast-iTPN: 682 of 256; 4 in v1).
        lateral_bias, split_bias: True in Fast-iTPN, False in v1.
        concat_trunk: the segmentation form.

    Attributes:
        channels: width of every output by its name.
        has_p7: whether p7 is computed, for heads that use it.
        has_p2: False if p2, the most expensive level, is not used; see :meth:`leave_out_p2`.
    """

    def __init__(
        self,
        channels: tuple[int, int, int],
        fpn_dim: int = 256,
        fpn_depth: int = 1,
        mlp_ratio: float = 8 / 3,
        lateral_bias: bool = True,
        split_bias: bool = True,
        norm_eps: float = 1e-6,
        concat_trunk: bool = False,
    ):
        super().__init__()
        check_sizes(channels=channels, fpn_dim=fpn_dim)
        check_sizes(0, fpn_depth=fpn_depth)
        check_positive(mlp_ratio=mlp_ratio, norm_eps=norm_eps)
        c1, c2, c3 = channels
        # 256 * 8/3 may come out a hair below the integer in other ratios: floor after a tiny shift
        hidden = math.floor(fpn_dim * mlp_ratio + 1e-6)

        def blocks(depth: int) -> nn.Sequential:
            return nn.Sequential(*(MlpBlock(fpn_dim, hidden, False, norm_eps=norm_eps) for _ in range(depth)))

        self.fpn_dim, self.concat_trunk, self.has_p2, self.has_p7 = fpn_dim, concat_trunk, True, False
        widths = (c1, c2, c3, c3, c3, c3) if concat_trunk else (0,) * 6
        self.channels = {f"p{k}": fpn_dim + width for k, width in enumerate(widths, 2)}
        self.align_p4 = nn.Linear(c3, fpn_dim) if c3 != fpn_dim else nn.Identity()
        self.split_p3 = PatchSplit(c3, fpn_dim, split_bias, norm_eps)
        self.lateral_p3 = nn.Linear(c2, fpn_dim, bias=lateral_bias)
        self.blocks_p3 = blocks(fpn_depth)
        self.split_p2 = PatchSplit(fpn_dim, fpn_dim, split_bias, norm_eps)
        self.lateral_p2 = nn.Linear(c1, fpn_dim, bias=lateral_bias)
        self.blocks_p2 = blocks(fpn_depth)
        self.out_p4, self.out_p3, self.out_p2 = (
            MlpBlock(fpn_dim, hidden, False, norm_eps=norm_eps) for _ in range(3)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's convolution defaults, as the reference; a transposed 2x2 convolution counts
        its fan-in over the output channels."""
        for split in (self.split_p3, self.split_p2):
            bound = 1 / math.sqrt(4 * self.fpn_dim)
            nn.init.uniform_(split.reduction.weight, -bound, bound)
            if split.bias is not None:
                nn.init.uniform_(split.bias, -bound, bound)

    def blocks(self) -> list[Block]:
        """All blocks: after each addition, from p3 down, then those before p4, p3 and p2."""
        return [module for module in self.modules() if isinstance(module, Block)]

    def leave_out_p2(self) -> None:
        """Do not compute p2 from now on, and freeze the parameters that only p2 uses: parameters without a
        gradient would stop distributed training. They keep their names, so that any checkpoint fits."""
        self.has_p2 = False
        for part in (self.split_p2, self.lateral_p2, self.blocks_p2, self.out_p2):
            part.requires_grad_(False)

    def top_down(self, f1: Tensor, f2: Tensor, f3: Tensor) -> tuple[Tensor, ...]:
        """Channel-last maps or units ``(..., h, w, C)`` of the three stages to p4, p3, p2 in the same
        layout, without p2 where it is left out."""
        p3 = self.blocks_p3(self.split_p3(f3) + self.lateral_p3(f2))
        maps = self.out_p4(self.align_p4(f3)), self.out_p3(p3)
        if not self.has_p2:
            return maps
        return *maps, self.out_p2(self.blocks_p2(self.split_p2(p3) + self.lateral_p2(f1)))

    def forward(self, f1: Tensor, f2: Tensor, f3: Tensor) -> dict[str, Tensor]:
        """Channel-last image maps to ``{"p2": (B, channels["p2"], H/4, W/4), ..., "p7": (B, channels["p7"],
        H/128, W/128)}``, without p2 if it is left out, and with p7 if ``has_p7``."""
        maps = in_stripes(self.top_down, f1, f2, f3, rows=f3.shape[1])
        if self.concat_trunk:
            pairs = zip(maps, (f3, f2, f1)[: len(maps)], strict=True)
            maps = tuple(torch.cat((p, f.to(p.dtype)), -1) for p, f in pairs)
        # one type for all levels, also under autocast, where a norm returns float32: RoI poolers mix the
        # levels
        p4, p3, *finest = (p.to(maps[-1].dtype).permute(0, 3, 1, 2) for p in maps)
        p5 = self._halve(p4)
        p6 = self._halve(p5)
        found = {**({"p2": finest[0]} if finest else {}), "p3": p3, "p4": p4, "p5": p5, "p6": p6}
        return {**found, "p7": self._halve(p6)} if self.has_p7 else found

    def _halve(self, x: Tensor) -> Tensor:
        # a map of one row or column stays that long: floor would leave nothing
        kernel = (min(2, x.shape[-2]), min(2, x.shape[-1]))
        if torch.compiler.is_compiling():
            # the same by views: in a graph of torch 2.10, pooling makes sizes hold for even, or for odd,
            # numbers of rows alone
            x = tiles(x, *kernel)
            return x.amax((-2, -1)) if self.concat_trunk else x.mean((-2, -1))
        return F.max_pool2d(x, kernel, kernel) if self.concat_trunk else F.avg_pool2d(x, kernel, kernel)
