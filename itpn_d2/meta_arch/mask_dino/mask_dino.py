"""Mask DINO (CVPR'23): one model for instance, semantic and panoptic segmentation."""

import math
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from detectron2.structures import ImageList
from torch import Tensor
from torchvision.ops import MLP

from ..dino.dino import DINO, in_fractions, scaled
from ..dino.geometry import Geometry
from ..dino.selection import Selected
from ..dino.structures import MaskLogits, Predictions, Targets, bounded_logit, inverse_sigmoid
from . import inference
from .pixel_features import PixelFeatures
from .targets import TASKS, Task, make_targets, mask_boxes

BoxInit = Literal["bitmask", "mask2box", "no"]
_EPS = 1e-5  # of boxes around masks


class MaskDINO(DINO):
    """:class:`~itpn_d2.meta_arch.dino.DINO` whose queries have masks too: the product of their states with
    features of the pixels.

    Queries start as the best cells themselves, and with boxes around the masks that those cells predict.

    Args:
        task: the task of training, and the kind of results: ``instance`` gives ``instances``;
            ``semantic`` gives ``sem_seg``; ``panoptic`` gives ``panoptic_seg``, and the other two as well.
        num_classes: of the instances, or of the semantic task.
        num_semantic_classes: for the panoptic task, all things as one and each kind of stuff, in the way of
            Detectron2: 0 are the things.
        mask_feature: the backbone's map of stride 4.
        mask_dim: channels of the product; None: those of the queries.
        box_init: queries start with boxes around their cells' masks: ``bitmask`` to the ends of the last
            cells, ``mask2box`` to their beginnings (Mask DINO's faster form, of its published R50); or, with
            ``no``, with the boxes of the cells. Learnt boxes stay as they are.
        initial_prediction: the predictions of the queries before the first layer have losses like those of a
            layer (Mask DINO's code).
        norm_twice: heads of classes and masks norm the normed states again (Mask DINO's code).
        score_threshold, overlap_threshold: of a panoptic segment.
        transform_scores, temperature: for semantic and panoptic maps, scores of classes are sharpened by a
            softmax of this temperature over their sigmoids (Mask DINO's ``PANO_TRANSFORM_EVAL``).
        things_first: instances of a panoptic model are the best pairs among things; if not, the things among
            the best pairs of all classes (Mask DINO's code).
        resize: what is enlarged to the size of a semantic map, ``masks`` or, as in Mask DINO's semantic
            recipe, ``scores``: see :func:`~.inference.semantic`.
        options: of DINO.

    Raises:
        ValueError: an unknown ``task``, ``resize`` or ``box_init``; ``num_semantic_classes`` missing in the
            panoptic task, or given in another one; ``no_object`` in a task that is not semantic; a
            ``mask_feature`` that the backbone does not have; or as DINO.
    """

    learns_queries = False
    on_host = ("sem_seg",)  # of a record, where its classes are counted before anything is sent to the device

    def __init__(
        self,
        *,
        task: Task = "instance",
        num_classes: int,
        num_semantic_classes: int | None = None,
        mask_feature: str = "p2",
        mask_dim: int | None = None,
        box_init: BoxInit = "bitmask",
        initial_prediction: bool = False,
        norm_twice: bool = False,
        score_threshold: float = 0.25,
        overlap_threshold: float = 0.8,
        transform_scores: bool = True,
        temperature: float = 0.06,
        things_first: bool = True,
        resize: inference.Resize = "masks",
        **options: Any,
    ):
        if task not in TASKS:
            raise ValueError(f"task {task!r}: choose {', '.join(TASKS)}")
        if resize not in get_args(inference.Resize):
            raise ValueError(f"resize {resize!r}: choose {', '.join(get_args(inference.Resize))}")
        if box_init not in get_args(BoxInit):
            raise ValueError(f"box_init {box_init!r}: choose {', '.join(get_args(BoxInit))}")
        if (task == "panoptic") != (num_semantic_classes is not None):
            raise ValueError(
                f"task {task!r} with num_semantic_classes={num_semantic_classes}: the panoptic task needs "
                "it (all things as one class, plus each kind of stuff), and the other tasks do not use "
                "it"
            )
        if options.get("no_object") and task != "semantic":
            raise ValueError(
                f"no_object with task {task!r}: instances and panoptic segments use a sigmoid for each "
                "class; only the semantic task uses a softmax over the classes and 'no object'"
            )
        stuff = 0 if num_semantic_classes is None else num_semantic_classes - 1
        super().__init__(num_classes=num_classes + stuff, **options)
        shapes, dim = self.backbone.output_shape(), self.decoder.dim
        if mask_feature not in shapes:
            raise ValueError(f"mask_feature {mask_feature!r}: the backbone has {', '.join(shapes)}")
        self.task: Task = task
        self.things = num_classes
        self.mask_feature, self.box_init = mask_feature, box_init
        self.initial_prediction, self.norm_twice = initial_prediction, norm_twice
        self.score_threshold, self.overlap_threshold = score_threshold, overlap_threshold
        self.transform_scores, self.temperature = transform_scores, temperature
        self.things_first, self.resize = things_first, resize
        groups = options.get("groups")
        self.pixel_features = PixelFeatures(shapes[mask_feature].channels, dim, groups, mask_dim)
        self.mask_head = MLP(dim, [dim, dim, mask_dim or dim])

    def finest(self, features: dict[str, Tensor], memory: Tensor, geometry: Geometry) -> Tensor | None:
        """Features of the pixels ``(B, mask_dim, H/4, W/4)``, which masks are predicted on."""
        return self.pixel_features(features[self.mask_feature], memory, geometry)

    def select(
        self, memory: Tensor, geometry: Geometry, finest: Tensor | None, images: ImageList
    ) -> Selected:
        """The cells that queries start from, with their masks, and with boxes around these by ``box_init``;
        of one stage what is learnt.

        Args:
            memory: ``(B, S, C)``.
            finest: ``(B, mask_dim, H/4, W/4)``.
        """
        assert finest is not None
        found = super().select(memory, geometry, finest, images)
        if found.predictions is None:
            return found
        masks = MaskLogits(self.mask_head(self.decoder.norm(found.tokens)), finest)
        anchors = found.anchors
        if self.box_init != "no":
            anchors = self._around_masks(masks, anchors, images)
        return replace(found, anchors=anchors, predictions=replace(found.predictions, masks=masks))

    @torch.no_grad()
    def _around_masks(self, masks: MaskLogits, anchors: Tensor, images: ImageList) -> Tensor:
        """Logits of the boxes around masks, and the given ones where a mask is empty."""
        boxes, empty = [], []
        height, width = images.tensor.shape[-2:]
        for number, size in enumerate(self.frames(images)):
            maps = masks.of(number)
            # pixels of a cell, each way; what a mask says of padding is no object
            rows, columns = height / maps.shape[1], width / maps.shape[2]
            own = maps[:, : math.ceil(size[0] / rows), : math.ceil(size[1] / columns)]
            corners = mask_boxes(own > 0)
            empty.append((corners[:, 2:] <= 0).any(-1, keepdim=True))
            if self.box_init == "mask2box":
                corners = torch.cat((corners[:, :2], corners[:, 2:] - 1), 1)
            corners = scaled(corners, columns, rows)
            boxes.append(in_fractions(corners, size).clamp(0, 1))
        found = torch.stack(boxes)
        if not self.reference.boxes_of_empty_masks:
            narrow = (found[..., 2:] <= 0).any(-1, keepdim=True)
            return torch.where(narrow, anchors, inverse_sigmoid(found))
        # the corners of nothing: from 1e8 to 0, which is (1, 1, 0, 0) when bounded; or zeros
        centre = float(self.box_init == "mask2box")
        nothing = torch.cat((torch.full_like(found[..., :2], centre), torch.zeros_like(found[..., 2:])), -1)
        found = torch.where(torch.stack(empty), nothing, found)
        return bounded_logit(found, self.reference.logit_eps or _EPS)

    def initial(self, x: Tensor, anchors: Tensor, finest: Tensor | None) -> Predictions | None:
        """What queries say before the first layer; None without ``initial_prediction``.

        Args:
            x: ``(B, Q, C)``, contents.
            anchors: ``(B, Q, 4)``, logits of boxes.
            finest: ``(B, mask_dim, H/4, W/4)``.
        """
        if not self.initial_prediction:
            return None
        return self._judge(self.decoder.norm(x), anchors.sigmoid(), finest)

    def predict(self, states: Tensor, boxes: Tensor, finest: Tensor | None, layer: int = -1) -> Predictions:
        """The predictions from a layer's states ``(B, Q, C)``: classes, boxes and masks."""
        states = self.decoder.norm(states) if self.norm_twice else states
        return self._judge(states, boxes, finest, layer)

    def _judge(self, states: Tensor, boxes: Tensor, finest: Tensor | None, layer: int = -1) -> Predictions:
        assert finest is not None
        masks = MaskLogits(self.mask_head(states), finest)
        return replace(super().predict(states, boxes, finest, layer), masks=masks)

    def targets(self, batch: list[dict[str, Any]], images: ImageList) -> list[Targets]:
        """The objects of each image, with masks of the padded batch's size; ValueError where a record lacks
        what the task needs."""
        size = (images.tensor.shape[-2], images.tensor.shape[-1])
        options = (self.task, size, self.num_classes, self.things, self.device)
        return [make_targets(record, *options) for record in batch]

    def inference(
        self, predictions: Predictions, batch: list[dict[str, Any]], images: ImageList
    ) -> list[dict[str, Any]]:
        """For each image a dict of what the task gives, at the size of the results: ``instances``,
        ``sem_seg`` ``(K, height, width)`` of votes, ``panoptic_seg``."""
        assert predictions.masks is not None
        padded = (images.tensor.shape[-2], images.tensor.shape[-1])
        temperature = self.temperature if self.transform_scores else None
        results: list[dict[str, Any]] = []
        for number, (item, size) in enumerate(zip(batch, images.image_sizes, strict=True)):
            frames = (padded, tuple(size), (item.get("height", size[0]), item.get("width", size[1])))
            logits, masks = predictions.logits[number], predictions.masks.of(number)
            boxes = predictions.boxes[number]
            if self.reference.batch_results:
                boxes = scaled(boxes, padded[1] / size[1], padded[0] / size[0])
            found: dict[str, Any] = {}
            if self.task != "semantic":
                found["instances"] = inference.instances(
                    logits,
                    boxes,
                    masks,
                    frames,
                    self.test_topk_per_image,
                    self.things,
                    self.things_first,
                    self.reference.drop_empty,
                    self.reference.clip_boxes,
                )
            if self.task != "instance":
                scores = inference.class_scores(logits, temperature, self.no_object)
                votes = inference.semantic(scores, masks, frames, self.resize)
                if self.task == "panoptic":
                    votes = torch.cat((votes[: self.things].sum(0, keepdim=True), votes[self.things :]))
                found["sem_seg"] = votes
            if self.task == "panoptic":
                found["panoptic_seg"] = inference.panoptic(
                    logits,
                    masks,
                    frames,
                    self.things,
                    self.score_threshold,
                    self.overlap_threshold,
                    temperature,
                )
            results.append(found)
        return results
