"""A classifier as a Detectron2 meta-architecture."""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone import create_model
from ..backbone.yacs import yacs_section
from ..layers import upload
from ..normalisation import IMAGENET
from .batch_augmentation import BatchAugmentation


@META_ARCH_REGISTRY.register()
class ImageClassifier(nn.Module):
    """Batches of labelled images to a loss in training, and to scores of all classes in evaluation.

    Args:
        network: normalised images ``(B, C, H, W)`` to logits ``(B, num_classes)``: our classifier
            (:func:`itpn_d2.create_model` with ``num_classes``), or any of timm's.
        pixel_mean, pixel_std: of the input's channels, 0..255.
        input_format: order of the channels in the batches, to which the means belong; channels are not
            reordered.
        augmentation: of batches in training; None for none, and no label smoothing.
        head_only: train the network's classifier alone (linear probing). The rest is frozen and in evaluation
            mode; a batch norm named ``fc_norm`` before the head still follows its statistics.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        network: nn.Module,
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
        input_format: str = "RGB",
        augmentation: BatchAugmentation | None = None,
        head_only: bool = False,
    ):
        super().__init__()
        self.network, self.augmentation = network, augmentation
        self.input_format, self.head_only = input_format, head_only
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)
        if head_only:
            network.requires_grad_(False)
            for part in self._trained_parts():
                part.requires_grad_(True)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """From a yacs config: ``MODEL.ITPN`` and ``MODEL.CLASSIFIER``, see
        :func:`itpn_d2.backbone.yacs.add_itpn_config`."""
        node, head = yacs_section(cfg, "ITPN"), yacs_section(cfg, "CLASSIFIER")
        network = create_model(
            node.NAME,
            num_classes=head.NUM_CLASSES,
            pooling=head.POOLING,
            drop_path=node.DROP_PATH,
            pos_grid=tuple(node.POS_GRID),
            in_channels=len(cfg.MODEL.PIXEL_MEAN),
        )
        return {
            "network": network,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
            "augmentation": BatchAugmentation() if head.AUGMENTATION else None,
            "head_only": head.HEAD_ONLY,
        }

    def _trained_parts(self) -> list[nn.Module]:
        """With ``head_only``: the parts that stay in training mode."""
        network: Any = self.network
        return [network.get_classifier(), getattr(network, "fc_norm", nn.Identity())]

    def train(self, mode: bool = True) -> "ImageClassifier":
        """Switch between training and evaluation; with ``head_only`` all but the head and ``fc_norm`` stays
        in evaluation mode."""
        super().train(mode)
        if self.head_only:
            self.network.eval()
            for part in self._trained_parts():
                part.train(mode)
        return self

    @property
    def device(self) -> torch.device:
        """The device of the model, to which batches are sent."""
        return self.pixel_mean.device

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        """
        Args:
            batch: dicts with ``image`` ``(C, H, W)``, 0..255, all of one size, and in training ``label``.

        Returns:
            In training ``{"loss_cls": ...}``, cross-entropy with the soft targets of the augmentation; in
            evaluation a list of ``{"scores": (num_classes,)}``, which sum to 1.

        Raises:
            ValueError: images of different sizes, or a label out of range.
        """
        sizes = {tuple(item["image"].shape) for item in batch}
        if len(sizes) > 1:
            raise ValueError(
                f"images of different sizes in a batch: {sorted(sizes)}; use a view that crops to one size"
            )
        images = torch.stack([upload(item["image"], self.device) for item in batch])
        images = (images.float() - self.pixel_mean) / self.pixel_std
        if not self.training:
            return [{"scores": s} for s in self.network(images).float().softmax(1)]
        labels = upload(torch.tensor([item["label"] for item in batch]), self.device)
        num_classes = self._check_labels([item["label"] for item in batch])
        if self.augmentation is not None:
            images, targets = self.augmentation(images, labels, num_classes)
            return {"loss_cls": F.cross_entropy(self.network(images).float(), targets)}
        return {"loss_cls": F.cross_entropy(self.network(images).float(), labels)}

    def _check_labels(self, labels: list[int]) -> int:
        network: Any = self.network
        count = int(network.num_classes)
        if min(labels) < 0 or max(labels) >= count:
            raise ValueError(f"label {max(labels)}: the model has {count} classes, counted from 0")
        return count
