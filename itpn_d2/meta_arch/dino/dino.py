"""DINO (ICLR'23): a detector without anchors and suppression, as a Detectron2 meta-architecture."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.modeling import Backbone
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torchvision.ops import box_convert

from ...backbone.checkpointing import CheckpointingSpec, set_checkpointing
from ...layers.deformable import Form, set_form
from .criterion import Criterion
from .decoder import Decoder
from .denoising import Denoising, NoisyQueries
from .encoder import Encoder
from .geometry import Geometry, locate
from .neck import Neck
from .reference import Name, Reference, reference_of
from .selection import QuerySelection, Selected, class_head
from .structures import Predictions, Targets
from .transfer import upload


class DINO(nn.Module):
    """Images to losses in training, to ``Instances`` in evaluation.

    Args:
        backbone: any of Detectron2's. Where its ``forward`` takes ``image_sizes``, as ours does, it learns
            which part of each image is padding.
        encoder, decoder: of the width of each other; their levels are ``in_features`` and ``extra_levels``.
        num_queries: most objects that can be found in an image.
        criterion: needed in training only.
        denoising: arguments of :class:`~.denoising.Denoising` but the first two; None: trained without.
        in_features, extra_levels: see :class:`~.neck.Neck`.
        checkpointing: layers that are recomputed in the backward pass, parts ``encoder`` and ``decoder``: see
            :func:`~itpn_d2.backbone.checkpointing.set_checkpointing`.
        deformable: form of the deformable attention: ``auto``, ``torch`` or ``triton``.
        reference: whose rules hold where ours are better than those of a published implementation: see
            :mod:`.reference`. None: ours.
        test_topk_per_image: detections of an image. COCO's evaluation takes 100 of each class.
        pixel_mean, pixel_std: of the input's channels, 0..255.
        input_format: order of the channels; says only what the means belong to.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        encoder: Encoder,
        decoder: Decoder,
        num_queries: int = 900,
        criterion: Criterion | None = None,
        denoising: Mapping[str, Any] | None = None,
        in_features: Sequence[str] = ("p3", "p4", "p5", "p6"),
        extra_levels: int = 0,
        checkpointing: CheckpointingSpec = (),
        deformable: Form = "auto",
        reference: Reference | Name | None = None,
        test_topk_per_image: int = 300,
        pixel_mean: Sequence[float] = (123.675, 116.28, 103.53),
        pixel_std: Sequence[float] = (58.395, 57.12, 57.375),
        input_format: str = "RGB",
    ):
        super().__init__()
        self.reference = reference_of(reference)
        dim, levels = decoder.dim, len(in_features) + extra_levels
        if tuple(encoder.level.shape) != (levels, dim):
            raise ValueError(
                f"the encoder is for (levels, dim) {tuple(encoder.level.shape)}; in_features and "
                f"extra_levels are {levels} levels, the decoder's dim is {dim}"
            )
        self.backbone, self.encoder, self.decoder = backbone, encoder, decoder
        self.neck = Neck(backbone, in_features, dim, extra_levels)
        self.selection = QuerySelection(dim, num_classes)
        self.class_head = class_head(dim, num_classes)
        self.denoising = None if denoising is None else Denoising(num_classes, dim, **denoising)
        self.criterion = criterion
        self.num_classes, self.num_queries = num_classes, num_queries
        self.test_topk_per_image, self.input_format = test_topk_per_image, input_format
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)
        self._tells_sizes = "image_sizes" in inspect.signature(backbone.forward).parameters
        set_checkpointing({"encoder": encoder.blocks(), "decoder": decoder.blocks()}, checkpointing)
        set_form(self, deformable)
        self.build_queries(dim)

    def build_queries(self, dim: int) -> None:
        """What queries start with: learnt contents, while the encoder gives their boxes (mixed query
        selection)."""
        self.content = nn.Embedding(self.num_queries, dim)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batch: list[dict[str, Any]]) -> Any:
        """
        Args:
            batch: dicts with ``image`` ``(C, H, W)``, 0..255; in training ``instances`` with ``gt_boxes`` and
                ``gt_classes``; in evaluation ``height`` and ``width`` of the results, if not those of the
                image.

        Returns:
            In training the losses by name; in evaluation a list of ``{"instances": ...}`` with
            ``pred_boxes``, ``scores`` and ``pred_classes``, best first.

        Raises:
            ValueError: there are no targets, or no criterion, to train with.
        """
        images = self.preprocess(batch)
        if self.training:
            return self.losses(batch, images)
        return self.inference(self.detect(images), batch, images)

    def detect(self, images: ImageList) -> Predictions:
        """What the last layer says of each query: a network of fixed steps, whose results
        :meth:`inference` sorts out."""
        selected, memory, geometry, finest = self.encode(images)
        return self.decode(selected, None, memory, geometry, finest)[-1]

    def losses(self, batch: list[dict[str, Any]], images: ImageList) -> dict[str, Tensor]:
        """The losses by name, of all layers, the encoder and the noisy queries."""
        selected, memory, geometry, finest = self.encode(images)
        targets = self.targets(batch, images)
        if self.criterion is None:
            raise ValueError(f"{type(self).__name__} has no criterion to be trained with")
        noisy = None
        if self.denoising is not None:
            noisy = self.denoising(targets, selected.anchors.shape[1])
        count = 0 if noisy is None else len(noisy)
        layers = self.decode(selected, noisy, memory, geometry, finest)
        matching = [p.queries(count, None) for p in layers]
        return self.criterion(
            matching, selected.predictions, targets, [p.queries(0, count) for p in layers], noisy
        )

    def encode(self, images: ImageList) -> tuple[Selected, Tensor, Geometry, Tensor | None]:
        """The cells that queries start from, all cells ``(B, S, C)``, where they are, and what masks are
        predicted on."""
        features = self.features(images)
        levels = self.neck(features)
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        geometry = locate(shapes, self.neck.strides, images.image_sizes, self.device)
        memory = self.encoder(levels, geometry)
        finest = self.finest(features, memory, geometry)
        return self.select(memory, geometry, finest, images), memory, geometry, finest

    def decode(
        self,
        selected: Selected,
        noisy: NoisyQueries | None,
        memory: Tensor,
        geometry: Geometry,
        finest: Tensor | None,
    ) -> list[Predictions]:
        """What each layer says of all queries, the noisy ones first."""
        x, anchors = self.start(selected)
        blocked = unused = None
        if noisy is not None:
            x = torch.cat((noisy.content.to(x.dtype), x), 1)
            anchors = torch.cat((noisy.anchors, anchors), 1)
            blocked, unused = noisy.blocked, noisy.unused
        states, boxes = self.decoder(x, anchors, memory, geometry, blocked, unused)
        return [self.predict(s, b, finest) for s, b in zip(states, boxes, strict=True)]

    def preprocess(self, batch: list[dict[str, Any]]) -> ImageList:
        """Normalised images, zero-padded to one size."""
        images = [upload(item["image"], self.device).float() for item in batch]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def features(self, images: ImageList) -> dict[str, Tensor]:
        """The backbone's maps."""
        if self._tells_sizes:
            return self.backbone(images.tensor, images.image_sizes)
        return self.backbone(images.tensor)

    def finest(self, features: dict[str, Tensor], memory: Tensor, geometry: Geometry) -> Tensor | None:
        """What masks are predicted on; here nothing."""
        return None

    def select(
        self, memory: Tensor, geometry: Geometry, finest: Tensor | None, images: ImageList
    ) -> Selected:
        """The cells that queries start from."""
        return self.selection(memory, geometry, self.num_queries)

    def start(self, selected: Selected) -> tuple[Tensor, Tensor]:
        """Contents ``(B, K, C)`` and logits of boxes ``(B, K, 4)`` before the first layer."""
        content = self.content.weight[: selected.anchors.shape[1]]
        return content.expand(len(selected.anchors), -1, -1), selected.anchors.detach()

    def predict(self, states: Tensor, boxes: Tensor, finest: Tensor | None) -> Predictions:
        """What a layer's states say."""
        return Predictions(self.class_head(states), boxes)

    def targets(self, batch: list[dict[str, Any]], images: ImageList) -> list[Targets]:
        """The objects of each image."""
        classes, boxes = [], []
        for item in batch:
            if "instances" not in item:
                raise ValueError(
                    f"{type(self).__name__} is trained on records with 'instances'; "
                    f"{item.get('file_name', 'this one')} has {', '.join(item)}: use a training mapper"
                )
            instances = item["instances"]
            classes.append(instances.gt_classes.long())
            boxes.append(in_fractions(instances.gt_boxes.tensor, instances.image_size))
        counts = [len(c) for c in classes]
        moved = (upload(torch.cat(x), self.device).split(counts) for x in (classes, boxes))
        return [Targets(c, b) for c, b in zip(*moved, strict=True)]

    def inference(
        self, predictions: Predictions, batch: list[dict[str, Any]], images: ImageList
    ) -> list[dict[str, Any]]:
        """The best pairs of query and class, at the size of the results."""
        results = []
        for number, (item, (height, width)) in enumerate(zip(batch, images.image_sizes, strict=True)):
            scores, queries, classes = best_pairs(predictions.logits[number], self.test_topk_per_image)
            size = item.get("height", height), item.get("width", width)
            found = Instances(size, scores=scores, pred_classes=classes)
            found.pred_boxes = in_pixels(predictions.boxes[number][queries], size)
            kept = found.pred_boxes.nonempty().nonzero()[:, 0]  # by a mask, each field would wait
            results.append({"instances": found[kept]})
        return results


def best_pairs(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits ``(Q, K)`` the ``count`` highest: scores, queries and classes, best first."""
    scores = logits.float().sigmoid().flatten()
    scores, places = scores.topk(min(count, len(scores)))
    return scores, places // logits.shape[1], places % logits.shape[1]


def in_pixels(boxes: Tensor, size: tuple[int, int], clip: bool = True) -> Boxes:
    """Fractions (x, y, w, h) to corners in pixels of an image of ``size`` (height, width); within it, unless
    ``clip`` is off."""
    height, width = size
    corners = box_convert(boxes.float(), "cxcywh", "xyxy")
    if clip:
        corners = corners.clamp(0, 1)
    return Boxes(scaled(corners, width, height))


def in_fractions(corners: Tensor, size: tuple[int, int]) -> Tensor:
    """The reverse: corners in pixels to fractions (x, y, w, h), in float32."""
    height, width = size
    return box_convert(scaled(corners.float(), 1 / width, 1 / height), "xyxy", "cxcywh")


def scaled(corners: Tensor, x: float, y: float) -> Tensor:
    """Corners ``(..., 4)`` with their places times ``x`` and ``y``; without a tensor of factors, which would
    have to be copied to the device."""
    x1, y1, x2, y2 = corners.unbind(-1)
    return torch.stack((x1 * x, y1 * y, x2 * x, y2 * y), -1)
