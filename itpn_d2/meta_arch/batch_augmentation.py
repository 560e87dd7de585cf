"""What is done to a batch of labelled images while training: random erasing, mixup, cutmix, smoothing."""

from typing import Literal

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn
from torch.nn import functional as F


class BatchAugmentation(nn.Module):
    """Images and labels to images and soft targets, by timm's implementations; in evaluation mode the images
    as they are and one-hot targets.

    Randomness comes from Python's, NumPy's and torch's generators, which the trainer seeds for each batch.

    Args:
        mixup, cutmix: alpha of the Beta distributions, 0 for none; of both one is drawn for each batch.
        mix_probability: share of the batches (or images, see ``mix_mode``) that are mixed at all.
        switch_probability: that cutmix is drawn rather than mixup.
        mix_mode: one ratio for the ``batch``, for each ``pair``, or for each ``elem``.
        label_smoothing: probability taken from the label and spread over all classes.
        erasing: probability that a rectangle of an image is erased (of the normalised image).
        erasing_mode: ``pixel`` and ``rand`` fill it with normal noise for each pixel, or one colour;
            ``const`` with zeros.
        erasing_count: largest number of rectangles.

    Raises:
        ValueError: an unknown ``mix_mode`` or ``erasing_mode``; ``label_smoothing`` outside [0, 1),
            ``erasing`` outside [0, 1].
    """

    def __init__(
        self,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        mix_probability: float = 1.0,
        switch_probability: float = 0.5,
        mix_mode: Literal["batch", "pair", "elem"] = "batch",
        label_smoothing: float = 0.1,
        erasing: float = 0.25,
        erasing_mode: Literal["pixel", "rand", "const"] = "pixel",
        erasing_count: int = 1,
    ):
        super().__init__()
        if mix_mode not in ("batch", "pair", "elem"):
            raise ValueError(f"mix_mode {mix_mode!r}: choose batch, pair or elem")
        if erasing_mode not in ("pixel", "rand", "const"):
            raise ValueError(f"erasing_mode {erasing_mode!r}: choose pixel, rand or const")
        for name, value in (("label_smoothing", label_smoothing), ("erasing", erasing)):
            if not 0 <= value < 1 and not (name == "erasing" and value == 1):
                raise ValueError(f"{name} {value}: choose a value in [0, 1)")
        self.mixes = mix_probability > 0 and (mixup > 0 or cutmix > 0)
        self.mix = Mixup(
            mixup_alpha=mixup,
            cutmix_alpha=cutmix,
            prob=mix_probability,
            switch_prob=switch_probability,
            mode=mix_mode,
            label_smoothing=label_smoothing,
        )
        self.label_smoothing = label_smoothing
        self.eraser = None
        if erasing > 0:
            self.eraser = RandomErasing(erasing, mode=erasing_mode, max_count=erasing_count)

    def forward(self, images: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Normalised images ``(B, C, H, W)``, which may be changed in place, and labels ``(B,)`` to images
        and targets ``(B, num_classes)``.

        Raises:
            ValueError: images are mixed in pairs, and their number is odd.
        """
        if not self.training:
            return images, F.one_hot(labels, num_classes).to(images.dtype)
        if self.eraser is not None:
            self.eraser.device = images.device
            images = self.eraser(images)
        if not self.mixes:
            off = self.label_smoothing / num_classes
            targets = torch.full((len(labels), num_classes), off, dtype=images.dtype, device=images.device)
            on = 1.0 - self.label_smoothing + off
            return images, targets.scatter_(1, labels[:, None], on)
        if len(images) % 2:
            raise ValueError(
                f"mixup and cutmix mix pairs of images, but in a batch of {len(images)} the last image "
                "has no partner: make dataloader.train.total_batch_size / (train.accumulate * processes) "
                "even, or set model.augmentation.mixup=0 model.augmentation.cutmix=0"
            )
        self.mix.num_classes = num_classes
        return self.mix(images, labels)
