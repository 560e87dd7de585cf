"""Common parts of the semantic heads: a convolution with norm, the loss and the interface."""

from collections.abc import Mapping

from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import everywhere


def conv(in_channels: int, out_channels: int, kernel: int, norm: str) -> Conv2d:
    """Convolution of the same size, norm and ReLU; a bias where there is no norm. He's initialisation."""
    layer = Conv2d(
        in_channels,
        out_channels,
        kernel,
        padding=kernel // 2,
        bias=not norm,
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, to (height, width)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


class SemanticHead(nn.Module):
    """A head with the interface of Detectron2's ``sem_seg_head``: pyramid maps to the logits of all classes.

    A subclass defines :meth:`layers`, maps to features ``(B, width, H/s, W/s)`` of any stride s.

    Args:
        num_classes: classes of the labels.
        width: channels of the features.
        dropout: probability that a whole channel is dropped before the classifier.
        loss_name: key of the loss.
        loss_weight: factor on the loss.
        ignore_value: label of pixels that do not train.
    """

    def __init__(
        self,
        num_classes: int,
        width: int,
        dropout: float,
        loss_name: str,
        loss_weight: float,
        ignore_value: int,
    ):
        super().__init__()
        self.finest = ("p2", 4)  # name and stride
        self.num_classes, self.loss_name, self.loss_weight = num_classes, loss_name, loss_weight
        self.ignore_value = ignore_value
        self.dropout = nn.Dropout2d(dropout)
        self.predictor = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.predictor.weight, std=0.01)
        nn.init.zeros_(self.predictor.get_parameter("bias"))

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Maps by name to features ``(B, width, H/s, W/s)``; NotImplementedError here."""
        raise NotImplementedError

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """
        Args:
            features: maps by name; the finest one that the head takes tells the size of the image.
            targets: ``(B, H, W)`` int64, needed in training.

        Returns:
            In training None and the loss, a mean over the pixels of all processes that are not ignored (0
            where all are); else
            logits ``(B, num_classes, H, W)`` of the padded image and no losses.
        """
        logits = self.predictor(self.dropout(self.layers(features)))
        if not self.training:
            name, stride = self.finest
            height, width = features[name].shape[-2:]
            return resize(logits, (stride * height, stride * width)), {}
        assert targets is not None, "a semantic head needs targets in training"
        logits = resize(logits.float(), (targets.shape[-2], targets.shape[-1]))
        total = F.cross_entropy(logits, targets, ignore_index=self.ignore_value, reduction="sum")
        counted = everywhere((targets != self.ignore_value).sum()).clamp(min=1)
        return None, {self.loss_name: self.loss_weight * total / counted.to(total.dtype)}


def sorted_features(input_shape: Mapping[str, ShapeSpec]) -> tuple[list[str], list[int]]:
    """Names and channels of pyramid levels, fine to coarse.

    Raises:
        ValueError: there is none.
    """
    if not input_shape:
        raise ValueError("a semantic head needs the shape of at least one map: input_shape is empty")
    levels = sorted(input_shape.items(), key=lambda item: item[1].stride)
    return [name for name, _ in levels], [shape.channels for _, shape in levels]
