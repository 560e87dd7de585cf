"""The shapes that a head needs to know before its backbone is built."""

from collections.abc import Sequence

from detectron2.layers import ShapeSpec

from .pyramid import STRIDES
from .variants import get_variant


def pyramid_shapes(
    name: str,
    levels: Sequence[str] = ("p2", "p3", "p4", "p5"),
    fpn_dim: int = 256,
    concat_trunk: bool = False,
    channels: Sequence[int] | None = None,
) -> dict[str, ShapeSpec]:
    """Channels and stride of the levels of the backbone that :func:`.create_model` builds from the same
    arguments.

    Raises:
        KeyError: no such variant or level.
    """
    widths = channels or get_variant(name).channels
    found = {}
    for level in levels:
        if level not in STRIDES:
            raise KeyError(f"no level {level!r} in the pyramid: choose from {', '.join(STRIDES)}")
        trunk = widths[min(int(level[1:]) - 2, 2)] if concat_trunk else 0
        found[level] = ShapeSpec(channels=fpn_dim + trunk, stride=STRIDES[level])
    return found
