"""The fully convolutional head (Long et al., CVPR'15), which UPerNet has as an auxiliary one."""

from collections.abc import Mapping

from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from .semantic import SemanticHead, conv, sorted_features


class FCNHead(SemanticHead):
    """3x3 convolutions and a classifier on one map.

    Args:
        input_shape: of that map (of several, the finest is taken).
        channels: width of the convolutions.
        num_convs: how many.
        norm: ``SyncBN``, ``GN``, ``BN`` or empty.
        dropout, loss_weight, ignore_value: see :class:`.SemanticHead`; the weight is that of the reference's
            auxiliary head.
    """

    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        channels: int = 256,
        num_convs: int = 1,
        norm: str = "SyncBN",
        dropout: float = 0.1,
        loss_weight: float = 0.4,
        ignore_value: int = 255,
        loss_name: str = "loss_auxiliary",
    ):
        super().__init__(num_classes, channels, dropout, loss_name, loss_weight, ignore_value)
        names, widths = sorted_features(input_shape)
        self.in_feature = names[0]
        self.finest = names[0], input_shape[names[0]].stride
        steps = [widths[0], *[channels] * num_convs]
        self.convs = nn.Sequential(*(conv(a, b, 3, norm) for a, b in zip(steps, steps[1:], strict=False)))

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """The finest map ``(B, C, h, w)`` to ``(B, channels, h, w)``."""
        return self.convs(features[self.in_feature])
