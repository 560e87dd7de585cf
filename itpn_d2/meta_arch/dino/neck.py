"""From a backbone's maps to the levels of the encoder."""

from collections.abc import Sequence

from detectron2.modeling import Backbone
from timm.layers import LayerNorm2d
from torch import Tensor, nn


class Neck(nn.Module):
    """A 1x1 convolution and a norm for each map, so that all have ``dim`` channels.

    Args:
        backbone: any of Detectron2's; says channels and strides of its maps.
        in_features: names of the maps, finest first; of our pyramid ``("p3", "p4", "p5", "p6")`` for four
            scales, ``"p2"`` before them for five.
        extra_levels: further, coarser levels by 3x3 convolutions of stride 2 from the last map, for backbones
            that end early.
        groups: of a GroupNorm (the papers': 32), which takes its statistics over a whole map, padding
            included; None, ours: a norm over the channels of each cell.

    Attributes:
        strides: pixels between the cells of each level.

    Raises:
        ValueError: the backbone has no map of that name.
    """

    def __init__(
        self,
        backbone: Backbone,
        in_features: Sequence[str],
        dim: int = 256,
        extra_levels: int = 0,
        groups: int | None = None,
    ):
        super().__init__()
        known = backbone.output_shape()
        missing = [name for name in in_features if name not in known]
        if missing or not in_features:
            raise ValueError(
                f"in_features {list(in_features)}: the backbone has {', '.join(known)}; name some of these"
            )
        self.in_features = list(in_features)
        self.strides = [known[name].stride for name in in_features]
        last = known[self.in_features[-1]].channels
        self.project = nn.ModuleList(_unit(known[name].channels, dim, 1, groups) for name in in_features)
        self.extra = nn.ModuleList(_unit(dim if k else last, dim, 3, groups) for k in range(extra_levels))
        self.strides += [self.strides[-1] * 2 ** (k + 1) for k in range(extra_levels)]

    def forward(self, features: dict[str, Tensor]) -> list[Tensor]:
        """Maps by name to levels ``(B, dim, h, w)``."""
        levels = [unit(features[n]) for unit, n in zip(self.project, self.in_features, strict=True)]
        for number, unit in enumerate(self.extra):
            levels.append(unit(levels[-1] if number else features[self.in_features[-1]]))
        return levels


def map_norm(dim: int, groups: int | None) -> nn.Module:
    """The norm of a map: over channels, or a GroupNorm."""
    return LayerNorm2d(dim) if groups is None else nn.GroupNorm(groups, dim)


def _unit(channels: int, dim: int, kernel: int, groups: int | None) -> nn.Sequential:
    convolution = nn.Conv2d(channels, dim, kernel, stride=1 + (kernel > 1), padding=kernel // 2)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.get_parameter("bias"))
    return nn.Sequential(convolution, map_norm(dim, groups))
