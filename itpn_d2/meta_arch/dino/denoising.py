"""De-noising: additional queries that start from noisy objects and are trained to find them (DN-DETR, DINO).

They come in groups. A group has a little noisy and, if it is contrastive, a very noisy query for each object:
the first is trained to find it, the second to find nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_convert

from ...layers import Reseeded, draws_of, upload
from .reference import OURS, Reference
from .structures import Match, Targets, inverse_sigmoid


@dataclass(frozen=True)
class NoisyQueries:
    """N de-noising queries, which go before the Q matching queries.

    Attributes:
        content: ``(B, N, C)``.
        anchors: ``(B, N, 4)`` logits of boxes.
        blocked: ``(N + Q, N + Q)``, True where a query may not see another: matching queries do not attend to
            noisy ones, which know the ground truth, and groups do not attend to each other.
        unused: ``(B, N + Q)``, True for queries that only fill up an image with fewer objects than another;
            they are masked from attention, so that an image's losses do not depend on its batch.
        matches: of each image: queries among the N, and the objects that they come from; on the CPU, like
            those of the matcher.
        groups: how often each object occurs in ``matches``.
    """

    content: Tensor
    anchors: Tensor
    blocked: Tensor
    unused: Tensor
    matches: list[Match]
    groups: int

    def __len__(self) -> int:
        return self.content.shape[1]


class Denoising(nn.Module):
    """Makes noisy queries.

    Args:
        number: most objects of a group, and about half of all queries (all, if not contrastive). An image
            with more objects gives a random choice of them, so that memory stays bounded.
        label_noise: twice the share of classes that are drawn anew.
        box_noise: how far a corner of a box is moved at most, in halves of the box's width and height; with
            the very noisy ones from that to twice that.
        contrastive: with very noisy queries (DINO). Mask DINO's code has none, and moves centres by up to so
            many halves of width and height, and these by up to so many times themselves.
        rows: of the table of labels; None: one for each class. The official DINO's files have one more, which
            is never looked up.

    Raises:
        ValueError: ``number`` is below 1.
    """

    def __init__(
        self,
        num_classes: int,
        dim: int = 256,
        number: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
        contrastive: bool = True,
        rows: int | None = None,
    ):
        super().__init__()
        if number < 1:
            raise ValueError(
                f"denoising number={number}: choose at least 1, or denoising=None to turn it off"
            )
        self.num_classes, self.number = num_classes, number
        self.label_noise, self.box_noise = label_noise, box_noise
        self.contrastive = contrastive
        self.labels = nn.Embedding(rows or num_classes, dim)

    def forward(self, targets: Sequence[Targets], num_matching: int, rules: Reference = OURS) -> NoisyQueries:
        """Queries for a batch; where no image has an object, all of them fill up.

        Args:
            num_matching: Q.
        """
        device = self.labels.weight.device
        slots = min(max(1, *(len(t) for t in targets)), self.number)
        groups = self.number // slots
        turns = Reseeded("objects to noise", len(targets))
        chosen = [self._choose(len(t), slots, turns) for t in targets]
        kept = [self._take(t, c) for t, c in zip(targets, chosen, strict=True)]
        classes = pad_sequence([t.classes for t in kept], batch_first=True)
        boxes = pad_sequence([t.boxes for t in kept], batch_first=True)
        spare = slots - classes.shape[1]  # 1 where nobody has an object
        classes = nn.functional.pad(classes, (0, spare))
        boxes = nn.functional.pad(boxes, (0, 0, 0, spare))
        used = torch.arange(slots) < torch.tensor([len(c) for c in chosen])[:, None]
        real = upload(used, device)
        copies = 1 + self.contrastive

        def repeat(x: Tensor) -> Tensor:  # (B, groups, copies, slots, ...)
            return x[:, None, None].expand(len(x), groups, copies, *x.shape[1:])

        content = self.labels(self._noisy_labels(repeat(classes))).flatten(1, 3)
        anchors = inverse_sigmoid(self._noisy_boxes(repeat(boxes))).flatten(1, 3)
        count = content.shape[1]
        group = torch.arange(count + num_matching, device=device) // (copies * slots)
        noisy = group < groups
        blocked = (group[:, None] != group) & noisy  # what a query may not see: noisy ones of other groups
        unused = nn.functional.pad(~repeat(real).flatten(1), (0, num_matching))
        if not rules.unused_hidden:  # they start as nothing, in the middle
            spares = unused[:, :count, None]
            content, anchors = content.masked_fill(spares, 0), anchors.masked_fill(spares, 0)
        starts = torch.arange(groups)[:, None] * copies * slots
        matches = [((starts + torch.arange(len(c))).flatten(), c.repeat(groups)) for c in chosen]
        return NoisyQueries(content, anchors, blocked, unused, matches, groups)

    @staticmethod
    def _choose(count: int, slots: int, turns: Reseeded) -> Tensor:
        """Numbers of the objects that get queries, on the CPU."""
        turns.next_image()
        return torch.arange(count) if count <= slots else torch.randperm(count)[:slots]

    @staticmethod
    def _take(targets: Targets, chosen: Tensor) -> Targets:
        if len(chosen) == len(targets):
            return targets
        where = upload(chosen, targets.classes.device)
        return Targets(targets.classes[where], targets.boxes[where])

    def _uniform(self, purpose: str, like: Tensor) -> Tensor:
        """Random numbers in [0, 1) for ``(B, groups, copies, slots, ...)``; those of an image do not depend
        on how many objects the others have."""
        batch, groups, copies, slots, *rest = like.shape
        draws = draws_of(batch)
        if draws is None:
            return torch.rand(like.shape, device=like.device)
        return draws.uniform(purpose, groups, copies, self.number, *rest)[:, :, :, :slots]

    def _noisy_labels(self, classes: Tensor) -> Tensor:
        drawn = (self._uniform("noisy labels", classes) * self.num_classes).long()
        changed = self._uniform("changed labels", classes) < self.label_noise / 2
        return torch.where(changed, drawn, classes)

    def _noisy_boxes(self, boxes: Tensor) -> Tensor:
        """``(B, groups, copies, slots, 4)``: of two the first with a little noise, the second with much."""
        moved = self._uniform("noisy boxes", boxes)
        if not self.contrastive:
            reach = torch.cat((boxes[..., 2:] / 2, boxes[..., 2:]), -1) * self.box_noise
            return (boxes + (moved * 2 - 1) * reach).clamp(0, 1)
        far = torch.arange(2.0, device=boxes.device)[:, None, None]
        sign = torch.where(self._uniform("directions", boxes) < 0.5, -1.0, 1.0)
        half = boxes[..., 2:].repeat(*[1] * (boxes.ndim - 1), 2) / 2
        corners = box_convert(boxes, "cxcywh", "xyxy") + sign * (moved + far) * self.box_noise * half
        return box_convert(corners.clamp(0, 1), "xyxy", "cxcywh")
