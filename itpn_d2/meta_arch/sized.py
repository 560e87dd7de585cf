"""Backbones that are told where the images of a padded batch end."""

import inspect
from typing import Any

import torch
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from torch import Tensor, nn
from torch.nn import functional as F


def takes_sizes(backbone: nn.Module) -> bool:
    """Whether a backbone's ``forward`` has an argument ``image_sizes``, as ours has. To be asked while a
    model is built: what wraps the backbone later may hide it."""
    return "image_sizes" in inspect.signature(backbone.forward).parameters


def sizes_of(images: ImageList) -> Tensor | tuple[()]:
    """(height, width) of the images without their padding, for a backbone: an int64 tensor ``(B, 2)`` on the
    CPU, whose values a recorded graph does not depend on, or ``()`` where no image is padded."""
    sizes = images.image_sizes
    if isinstance(sizes[0], Tensor):  # so Detectron2 has them while it is traced
        return torch.stack(list(sizes))
    height, width = images.tensor.shape[-2:]
    if all(h == height and w == width for h, w in sizes):
        return ()
    return torch.tensor(sizes)


def features_of(backbone: nn.Module, images: ImageList, tell_sizes: bool) -> dict[str, Tensor]:
    """The backbone's maps of a batch; ``tell_sizes`` is what :func:`takes_sizes` said.

    ``{level: (B, C, h, w)}`` of ``images.tensor``, ``(B, 3, H, W)``.
    """
    return backbone(images.tensor, sizes_of(images)) if tell_sizes else backbone(images.tensor)


class Sized:
    """For a meta-architecture that is derived from Detectron2's: the backbone's maps by :meth:`features`,
    which tells it the images' sizes. Detectron2's own hands over the tensor only."""

    backbone: Backbone

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._tells_sizes = takes_sizes(self.backbone)

    def features(self, images: ImageList) -> dict[str, Tensor]:
        """The backbone's maps of normalised images.

        ``{level: (B, C, h, w)}``.
        """
        return features_of(self.backbone, images, self._tells_sizes)


def pad_labels(labels: list[Tensor], images: ImageList, value: int) -> Tensor:
    """Label maps ``(H, W)`` to ``(B, H, W)`` of the size of a padded batch, with ``value`` in the padding."""
    height, width = images.tensor.shape[-2:]
    return torch.stack(
        [F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]), value=value) for x in labels]
    )
