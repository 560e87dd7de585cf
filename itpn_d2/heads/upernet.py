"""UPerNet (Xiao et al., ECCV'18), as the reference segmentors have it: sizes from their config."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from .semantic import SemanticHead, conv, resize, sorted_features


class PyramidPooling(nn.Module):
    """Means over 1x1, 2x2, ... parts of a map, beside the map itself (Zhao et al., CVPR'17): ``(B, C, h, w)``
    to ``(B, channels, h, w)``."""

    def __init__(self, in_channels: int, channels: int, pools: Sequence[int], norm: str):
        super().__init__()
        self.pools = tuple(pools)
        self.reduce = nn.ModuleList(conv(in_channels, channels, 1, norm) for _ in self.pools)
        self.fuse = conv(in_channels + len(self.pools) * channels, channels, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)`` to ``(B, channels, h, w)``."""
        size = (x.shape[-2], x.shape[-1])
        parts = [
            resize(reduce(F.adaptive_avg_pool2d(x, pool)), size).to(x.dtype)
            for pool, reduce in zip(self.pools, self.reduce, strict=True)
        ]
        return self.fuse(torch.cat([x, *parts], 1))


@SEM_SEG_HEADS_REGISTRY.register()
class UPerNetHead(SemanticHead):
    """Pyramid pooling on the coarsest map, a top-down path to the finest, and all levels fused there.

    Args:
        input_shape: channels and stride of the maps to use, e.g. of p2..p5.
        channels: width of the head.
        pools: parts of the pooled maps along each side.
        norm: ``SyncBN`` as in the reference (more than one image in all), ``GN`` for small batches, ``BN`` or
            empty.
        dropout, loss_weight, ignore_value: see :class:`.SemanticHead`.

    Raises:
        ValueError: ``GN``, whose 32 groups would hold a single value of the map pooled to 1x1.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        channels: int = 768,
        pools: Sequence[int] = (1, 2, 3, 6),
        norm: str = "SyncBN",
        dropout: float = 0.1,
        loss_weight: float = 1.0,
        ignore_value: int = 255,
    ):
        super().__init__(num_classes, channels, dropout, "loss_sem_seg", loss_weight, ignore_value)
        if norm == "GN" and (channels % 32 or channels < 64):
            raise ValueError(
                f"channels={channels} with norm='GN': choose a multiple of 32 that is at least 64"
            )
        self.in_features, widths = sorted_features(input_shape)
        self.finest = self.in_features[0], input_shape[self.in_features[0]].stride
        self.pooling = PyramidPooling(widths[-1], channels, pools, norm)
        self.laterals = nn.ModuleList(conv(width, channels, 1, norm) for width in widths[:-1])
        self.outputs = nn.ModuleList(conv(channels, channels, 3, norm) for _ in widths[:-1])
        self.fuse = conv(len(widths) * channels, channels, 3, norm)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        """From a yacs config's ``MODEL.SEM_SEG_HEAD``."""
        node = cfg.MODEL.SEM_SEG_HEAD
        return {
            "input_shape": {name: input_shape[name] for name in node.IN_FEATURES},
            "num_classes": node.NUM_CLASSES,
            "channels": node.CONVS_DIM,
            "norm": node.NORM,
            "loss_weight": node.LOSS_WEIGHT,
            "ignore_value": node.IGNORE_VALUE,
        }

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Maps by name to all levels fused, ``(B, channels, h, w)`` of the finest map's size."""
        maps = [features[name] for name in self.in_features]
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps[:-1], strict=True)]
        levels.append(self.pooling(maps[-1]))
        for i in range(len(levels) - 1, 0, -1):
            below = levels[i - 1]
            levels[i - 1] = below + resize(levels[i], (below.shape[-2], below.shape[-1])).to(below.dtype)
        size = (maps[0].shape[-2], maps[0].shape[-1])
        finished = [out(x) for out, x in zip(self.outputs, levels[:-1], strict=True)] + [levels[-1]]
        dtype = finished[0].dtype
        return self.fuse(torch.cat([resize(x, size).to(dtype) for x in finished], 1))
