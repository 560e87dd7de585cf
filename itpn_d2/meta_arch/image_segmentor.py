"""Detectron2's SemanticSegmentor with an auxiliary head and windows at test time."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone
from detectron2.modeling.meta_arch.semantic_seg import SemanticSegmentor
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import ImageList
from torch import Tensor, nn

from ..layers import upload
from ..normalisation import IMAGENET
from .sized import Sized, pad_labels
from .windows import Size, slide


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


@META_ARCH_REGISTRY.register()
class ImageSegmentor(Sized, SemanticSegmentor):
    """Images to a class for every pixel.

    Args:
        sem_seg_head: maps to logits, such as :class:`.UPerNetHead` or :class:`.SemSegFPNHead`.
        auxiliary_head: a second one that only trains, such as :class:`.FCNHead`; its loss is added.
        window: test window in pixels, a number or (height, width); None: the whole image at once.
        stride: from window to window; None: two thirds of it (the reference: 512 and 341).
        window_batch: windows of an image that are predicted at once.
        input_format: order of the channels in the batches, to which the means belong; channels are not
            reordered.

    Raises:
        ValueError: a stride without windows, or one that leaves gaps.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        auxiliary_head: nn.Module | None = None,
        window: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        window_batch: int = 1,
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
        input_format: str = "RGB",
    ):
        super().__init__(
            backbone=backbone,
            sem_seg_head=sem_seg_head,
            pixel_mean=list(pixel_mean),
            pixel_std=list(pixel_std),
        )
        self.auxiliary_head, self.input_format, self.window_batch = auxiliary_head, input_format, window_batch
        self.window = None if window is None else _pair(window)
        if self.window is None:
            if stride is not None:
                raise ValueError(f"stride={stride} needs windows: give window as well")
            self.stride = None
            return
        self.stride = (self.window[0] * 2 // 3, self.window[1] * 2 // 3) if stride is None else _pair(stride)
        if not all(0 < s <= w for s, w in zip(self.stride, self.window, strict=True)):
            raise ValueError(
                f"stride={stride}: choose 1 to {self.window} pixels (the window), otherwise gaps remain"
            )

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """
        Args:
            batched_inputs: dicts with ``image`` ``(C, H, W)``, 0..255, in training ``sem_seg`` ``(H, W)``
                int64, in evaluation ``height`` and ``width`` of the result where that has another size.

        Returns:
            In training the losses of both heads; in evaluation a list of ``{"sem_seg": (num_classes, height,
            width)}``, logits.
        """
        images = [upload(item["image"], self.device) for item in batched_inputs]
        images = [(image.float() - self.pixel_mean) / self.pixel_std for image in images]
        if self.training:
            return self._losses(images, [upload(item["sem_seg"], self.device) for item in batched_inputs])
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        if self.window is not None:
            maps = [self._slide(image, size) for image, size in zip(images, sizes, strict=True)]
        else:
            maps = list(self._logits(ImageList.from_tensors(images, self.backbone.size_divisibility)))
        return [
            {"sem_seg": sem_seg_postprocess(m.float(), size, *(item.get(k, s) for k, s in _sides(size)))}
            for m, size, item in zip(maps, sizes, batched_inputs, strict=True)
        ]

    def _logits(self, images: ImageList) -> Tensor:
        """Of normalised images, without the backbone's padding."""
        height, width = images.tensor.shape[-2:]
        return self.sem_seg_head(self.features(images), None)[0][..., :height, :width]

    def _slide(self, image: Tensor, size: Size) -> Tensor:
        """Of one normalised image of ``size``, window by window. If it is smaller than a window, all windows
        are padded alike."""
        window, stride = self.window, self.stride
        assert window is not None and stride is not None
        content = (min(size[0], window[0]), min(size[1], window[1]))

        def predict(windows: Tensor) -> Tensor:
            return self._logits(ImageList(windows, [content] * len(windows)))

        return slide(predict, image, window, stride, self.window_batch)

    def _losses(self, images: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        padded = ImageList.from_tensors(images, self.backbone.size_divisibility)
        targets = pad_labels(labels, padded, self.sem_seg_head.ignore_value)
        features = self.features(padded)
        losses = dict(self.sem_seg_head(features, targets)[1])
        if self.auxiliary_head is not None:
            losses.update(self.auxiliary_head(features, targets)[1])
        return losses


def _sides(size: tuple[int, int]) -> tuple[tuple[str, int], tuple[str, int]]:
    return ("height", size[0]), ("width", size[1])
