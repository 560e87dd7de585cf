"""DINO (ICLR'23): a detector without anchors and non-maximum suppression, as a Detectron2
meta-architecture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.modeling import Backbone
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torchvision.ops import box_convert

from ...backbone.checkpointing import CheckpointingSpec, set_checkpointing
from ...layers import upload
from ...layers.deformable import Form, Shapes, set_form
from ...normalisation import IMAGENET
from ..sized import features_of, takes_sizes
from .criterion import Criterion
from .decoder import Decoder
from .denoising import Denoising, NoisyQueries
from .encoder import Encoder
from .geometry import Geometry, count_cells, locate
from .neck import Neck
from .reference import Name, Reference, reference_of
from .selection import QuerySelection, Selected, class_head
from .structures import Predictions, Targets


class DINO(nn.Module):
    """Images to losses in training, to ``Instances`` in evaluation.

    Args:
        backbone: any of Detectron2's. Where its ``forward`` takes ``image_sizes``, as ours does, it learns
            which part of each image is padding.
        encoder, decoder: both of the same width; their levels are ``in_features`` and ``extra_levels``.
        num_queries: largest number of objects that can be found in an image.
        criterion: needed in training only.
        denoising: arguments of :class:`~.denoising.Denoising` except the first two; None: training without
            de-noising.
        in_features, extra_levels, groups: see :class:`~.neck.Neck`.
        two_stage: queries start as the best cells of the encoder. If not, contents and boxes are learnt (Mask
            DINO's recipe for ADE20K).
        learnt_queries: contents are learnt also with two stages, in which the cells only give the boxes
            ("mixed query selection"); if not, queries start as the cells themselves. None: learnt in DINO,
            not in Mask DINO.
        shared_encoder_heads: the encoder uses the decoder's heads, after the decoder's norm (Mask DINO's
            code); if not, it has its own heads (ours, DINO).
        coarsest_first: see :class:`~.selection.QuerySelection`.
        no_object: class heads have one more number, for no object, as a cross-entropy over classes needs.
        checkpointing: layers that are recomputed in the backward pass, parts ``encoder`` and ``decoder``: see
            :func:`~itpn_d2.backbone.checkpointing.set_checkpointing`.
        deformable: form of the deformable attention: ``auto``, ``torch`` or ``triton``.
        reference: the published implementation whose rules replace ours, see :mod:`.reference`; None: ours.
        test_topk_per_image: detections of an image. COCO's evaluation takes 100 of each class.
        pixel_mean, pixel_std: of the input's channels, 0..255.
        input_format: order of the channels to which the means belong; channels are not reordered.

    Raises:
        ValueError: the encoder's levels and width are not those of ``in_features``, ``extra_levels`` and the
            decoder; ``no_object`` does not fit the criterion's ``class_loss``; ``shared_encoder_heads``
            without one head for all layers of the decoder.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    learns_queries: bool = True  # where learnt_queries does not say otherwise

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
        groups: int | None = None,
        two_stage: bool = True,
        learnt_queries: bool | None = None,
        shared_encoder_heads: bool = False,
        coarsest_first: bool = False,
        no_object: bool = False,
        checkpointing: CheckpointingSpec = (),
        deformable: Form = "auto",
        reference: Reference | Name | None = None,
        test_topk_per_image: int = 300,
        pixel_mean: Sequence[float] = IMAGENET.mean,
        pixel_std: Sequence[float] = IMAGENET.std,
        input_format: str = "RGB",
    ):
        super().__init__()
        self.reference = reference_of(reference)
        dim, levels = decoder.dim, len(in_features) + extra_levels
        if tuple(encoder.level.shape) != (levels, dim):
            raise ValueError(
                f"the encoder is for (levels, dim) {tuple(encoder.level.shape)}, but in_features and "
                f"extra_levels give {levels} levels, and the decoder's dim is {dim}"
            )
        if criterion is not None and (criterion.class_loss == "cross_entropy") != no_object:
            raise ValueError(
                f"model.no_object={no_object} with criterion.class_loss={criterion.class_loss!r}: a "
                "cross-entropy needs an index for 'no object' besides the classes, and the focal loss "
                "has none; change one of them"
            )
        self.backbone, self.encoder, self.decoder = backbone, encoder, decoder
        self.neck = Neck(backbone, in_features, dim, extra_levels, groups)
        self.two_stage, self.no_object = two_stage, no_object
        self.learnt_queries = not two_stage or (
            self.learns_queries if learnt_queries is None else learnt_queries
        )
        columns = num_classes + no_object
        if shared_encoder_heads and not decoder.share_heads:
            raise ValueError(
                "shared_encoder_heads needs decoder.share_heads=True: each decoder layer has its own head"
            )
        self.selection = None
        if two_stage:
            self.selection = QuerySelection(dim, columns, not shared_encoder_heads, coarsest_first)
        self.class_head: nn.Module = (
            class_head(dim, columns)
            if decoder.share_heads
            else nn.ModuleList(class_head(dim, columns) for _ in decoder.layers)
        )
        self.denoising = None if denoising is None else Denoising(num_classes, dim, **denoising)
        self.criterion = criterion
        self.num_classes, self.num_queries = num_classes, num_queries
        self.test_topk_per_image, self.input_format = test_topk_per_image, input_format
        self.register_buffer("pixel_mean", torch.tensor(list(pixel_mean)).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(list(pixel_std)).view(-1, 1, 1), persistent=False)
        self._tells_sizes = takes_sizes(backbone)
        set_checkpointing({"encoder": encoder.blocks(), "decoder": decoder.blocks()}, checkpointing)
        set_form(self, deformable)
        if self.learnt_queries:
            self.content = nn.Embedding(num_queries, dim)
        if not two_stage:
            self.anchors = nn.Embedding(num_queries, 4)

    @property
    def device(self) -> torch.device:
        """The device of the model, to which batches are sent."""
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
        """The predictions of the last layer for each query: a network with fixed steps, whose results
        :meth:`inference` selects from."""
        selected, memory, geometry, finest = self.encode(images)
        return self.decode(selected, None, memory, geometry, finest)[-1]

    def losses(self, batch: list[dict[str, Any]], images: ImageList) -> dict[str, Tensor]:
        """The losses by name, of all layers, the encoder and the noisy queries: scalars.

        Raises:
            ValueError: there is no criterion, or as :meth:`targets`.
        """
        selected, memory, geometry, finest = self.encode(images)
        targets = self.targets(batch, images)
        if self.criterion is None:
            raise ValueError(f"{type(self).__name__} can't be trained without a criterion")
        noisy = None
        if self.denoising is not None:
            noisy = self.denoising(targets, selected.anchors.shape[1], self.reference)
        count = 0 if noisy is None else len(noisy)
        layers = self.decode(selected, noisy, memory, geometry, finest)
        matching = [p.queries(count, None) for p in layers]
        known = [p.queries(0, count) for p in layers]
        if not self.two_stage:  # what noisy queries start with is judged beside chosen cells only
            known = known[-len(self.decoder.layers) :]
        return self.criterion(matching, selected.predictions, targets, known, noisy)

    def encode(self, images: ImageList) -> tuple[Selected, Tensor, Geometry, Tensor | None]:
        """The cells that queries start from, all cells ``(B, S, C)``, where they are, and what masks are
        predicted on."""
        features = self.features(images)
        levels = self.neck(features)
        shapes = tuple((level.shape[-2], level.shape[-1]) for level in levels)
        geometry = self.locate(shapes, images)
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
        """The predictions of each layer for all queries, the noisy ones first; in training, they are preceded
        by the initial predictions if these have a loss (:meth:`initial`).

        Args:
            memory: ``(B, S, C)``, the encoder's cells of all levels.
            finest: see :meth:`finest`.
        """
        x, anchors = self.start(selected)
        blocked = unused = None
        if noisy is not None:
            x = torch.cat((noisy.content.to(x.dtype), x), 1)
            anchors = torch.cat((noisy.anchors, anchors), 1)
            blocked = noisy.blocked
            unused = noisy.unused if self.reference.unused_hidden else None
        states, boxes = self.decoder(x, anchors, memory, geometry, blocked, unused, self.reference)
        layers = [self.predict(s, b, finest, k) for k, (s, b) in enumerate(zip(states, boxes, strict=True))]
        first = self.initial(x, anchors, finest) if self.training else None
        return layers if first is None else [first, *layers]

    def frames(self, images: ImageList) -> list[tuple[int, int]]:
        """(height, width) in pixels of what boxes are fractions of: the images, or the padded batch where the
        reference does not tell them apart."""
        if self.reference.sees_padding(self.training):
            return [(int(h), int(w)) for h, w in images.image_sizes]
        return [(images.tensor.shape[-2], images.tensor.shape[-1])] * len(images.image_sizes)

    def locate(self, shapes: Shapes, images: ImageList) -> Geometry:
        """Where the cells of levels ``shapes`` lie."""
        if not self.reference.counted_cells:
            return locate(shapes, self.neck.strides, self.frames(images), self.device)
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        return count_cells(shapes, self.frames(images), padded, self.device)

    def preprocess(self, batch: list[dict[str, Any]]) -> ImageList:
        """Normalised images, zero-padded to one size."""
        images = [upload(item["image"], self.device).float() for item in batch]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(images, self.backbone.size_divisibility)

    def features(self, images: ImageList) -> dict[str, Tensor]:
        """The backbone's maps.

        ``{level: (B, C, h, w)}`` of a padded, normalised batch ``(B, 3, H, W)``.
        """
        return features_of(self.backbone, images, self._tells_sizes)

    def finest(self, features: dict[str, Tensor], memory: Tensor, geometry: Geometry) -> Tensor | None:
        """The map that masks are predicted on; here none.

        Args:
            features: the backbone's maps, ``(B, C, h, w)`` each.
            memory: ``(B, S, C)``, the encoder's cells of all levels.
        """
        return None

    def select(
        self, memory: Tensor, geometry: Geometry, finest: Tensor | None, images: ImageList
    ) -> Selected:
        """The cells that queries start from; with one stage, the learnt queries.

        ``memory`` is ``(B, S, C)``; ``num_queries`` of the S cells are chosen.
        """
        if self.selection is None:
            content, anchors = (x.weight.expand(len(memory), -1, -1) for x in (self.content, self.anchors))
            return Selected(content, anchors, None, None)
        if self.selection.class_head is not None:
            return self.selection(memory, geometry, self.num_queries, self.reference)
        heads = self.class_head, self.decoder.box_head
        found = self.selection(memory, geometry, self.num_queries, self.reference, heads)
        assert found.predictions is not None
        logits = self.class_head(self.decoder.norm(found.tokens))
        return replace(found, predictions=replace(found.predictions, logits=logits))

    def start(self, selected: Selected) -> tuple[Tensor, Tensor]:
        """Contents ``(B, K, C)`` and logits of boxes ``(B, K, 4)`` before the first layer."""
        if self.selection is None:
            return selected.tokens, selected.anchors.float()
        if not self.learnt_queries:
            return selected.tokens.detach(), selected.anchors.detach()
        content = self.content.weight[: selected.anchors.shape[1]]
        return content.expand(len(selected.anchors), -1, -1), selected.anchors.detach()

    def initial(self, x: Tensor, anchors: Tensor, finest: Tensor | None) -> Predictions | None:
        """The predictions of the queries before the first layer, if they have losses; here they have none.

        Args:
            x: ``(B, Q, C)``, contents.
            anchors: ``(B, Q, 4)``, logits of boxes.
        """
        return None

    def predict(self, states: Tensor, boxes: Tensor, finest: Tensor | None, layer: int = -1) -> Predictions:
        """The predictions from a layer's states.

        Args:
            states: ``(B, Q, C)``, after the decoder's norm.
            boxes: ``(B, Q, 4)``, as in :class:`~.structures.Targets`.
            layer: the layer whose class head is used, if each layer has its own.
        """
        return Predictions(self.decoder.head(self.class_head, layer)(states), boxes)

    def targets(self, batch: list[dict[str, Any]], images: ImageList) -> list[Targets]:
        """The objects of each image.

        Raises:
            ValueError: a record has no ``instances``.
        """
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
            found.pred_boxes = in_pixels(predictions.boxes[number][queries], size, self.reference.clip_boxes)
            if self.reference.drop_empty:
                found = found[found.pred_boxes.nonempty().nonzero()[:, 0]]  # by a mask, each field would wait
            results.append({"instances": found})
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
