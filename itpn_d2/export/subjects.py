"""What of a model is exported: its features, a DINO up to its queries, or a whole detector."""

from typing import Any

import torch
from detectron2.export import TracingAdapter
from detectron2.structures import ImageList
from torch import Tensor, nn

from ..backbone.backbone import ITPNBackbone
from ..engine.parts import find_part
from ..errors import ConfigError
from ..meta_arch import DINO


class Features(nn.Module):
    """Backbone and pyramid of a detector with its normalisation: ``(1, 3, H, W)``, 0..255, channels in the
    order of the model, H and W multiples of 32, to the levels p2, p3, ... All of the image is content; a
    program that takes image sizes as well, for padded batches, is exported as docs/heads.md shows.

    Raises:
        ConfigError: the model has no such backbone.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        backbone = find_part(model, ITPNBackbone)
        if backbone is None:
            raise ConfigError(f"{type(model).__name__} has no backbone of this project to export")
        self.backbone = backbone
        self.names = list(backbone.output_shape())
        for name in ("pixel_mean", "pixel_std"):
            self.register_buffer(name, getattr(model, name).detach().clone(), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """The levels of the pyramid, finest first, each ``(1, C, H / stride, W / stride)``."""
        return tuple(self.backbone((image - self.pixel_mean) / self.pixel_std).values())


class Queries(nn.Module):
    """DINO or Mask DINO with its normalisation, for images of one size ``(1, 3, H, W)``, 0..255, sides
    multiples of 32: what the last layer says of each query, ``logits`` ``(1, Q, K)`` for a sigmoid, ``boxes``
    ``(1, Q, 4)``, (x, y, w, h) of centre and size in fractions of the image, and ``masks``
    ``(1, Q, H / 4, W / 4)``, logits, where the model has them."""

    def __init__(self, model: DINO):
        super().__init__()
        self.model = model
        self.names = ["logits", "boxes"] + ["masks"] * hasattr(model, "mask_head")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """``logits``, ``boxes`` and, where the model has them, ``masks`` of an image ``(1, 3, H, W)``."""
        size = (image.shape[-2], image.shape[-1])
        normalised = (image - self.model.pixel_mean) / self.model.pixel_std
        found = self.model.detect(ImageList(normalised, [size]))
        masks = () if found.masks is None else (found.masks.of(0)[None],)
        return (found.logits, found.boxes, *masks)


class Detector(nn.Module):
    """A Detectron2 detector of one image ``(3, H, W)``, 0..255: boxes XYXY, classes, masks of the boxes
    ``(n, 1, side, side)`` where it has them, scores, in pixels of that image; in the order of ``fields``."""

    def __init__(self, model: nn.Module, image: Tensor):
        super().__init__()
        self.adapter = TracingAdapter(model, [{"image": image}], _instances)
        with torch.no_grad():
            found = _instances(model, [{"image": image}])[0]["instances"]
        self.fields = sorted(found.get_fields())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """One tensor for each of ``fields`` of what is found in an image ``(3, H, W)``."""
        # the last output is the size of the image
        return self.adapter(image)[: len(self.fields)]


def _instances(model: Any, inputs: Any) -> list[dict[str, Any]]:
    # pasting masks into the image is left to the caller: it takes long, and depends on the size wanted
    return [{"instances": model.inference(inputs, do_postprocess=False)[0]}]
