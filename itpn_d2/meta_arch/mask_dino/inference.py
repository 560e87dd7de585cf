"""From queries with classes and masks to instances, semantic maps and panoptic maps of one image."""

from typing import Any

import torch
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from ..dino.dino import best_pairs, in_pixels

_CHUNK = 50  # masks that are enlarged at a time
Size = tuple[int, int]


def enlarge(masks: Tensor, padded: Size, image: Size, size: Size) -> Tensor:
    """Logits ``(n, h, w)`` over a padded image to those of the image, ``(n, *size)``; all are (height,
    width)."""
    masks = F.interpolate(masks[None].float(), padded, mode="bilinear", align_corners=False)
    masks = masks[..., : image[0], : image[1]]
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)[0]


def instances(
    logits: Tensor, boxes: Tensor, masks: Tensor, frames: tuple[Size, Size, Size], count: int
) -> Instances:
    """The ``count`` best pairs of query and class.

    Args:
        logits: ``(Q, K)``.
        boxes: ``(Q, 4)`` in fractions.
        masks: ``(Q, h, w)`` logits.
        frames: the last three arguments of :func:`enlarge`.

    Returns:
        ``scores`` (of the class, times the mean probability within the mask), ``pred_classes``,
        ``pred_boxes`` and ``pred_masks`` bool at the size of the results, best first.
    """
    scores, queries, classes = best_pairs(logits, count)
    filled, certainty = [], []
    for chosen in queries.split(_CHUNK):
        large = enlarge(masks[chosen], *frames)
        inside = large > 0
        filled.append(inside)
        area = inside.flatten(1).sum(1)
        certainty.append((large.sigmoid() * inside).flatten(1).sum(1) / area.clamp(min=1))
    scores = scores * torch.cat(certainty)
    found = Instances(frames[2], scores=scores, pred_classes=classes)
    found.pred_boxes = in_pixels(boxes[queries], frames[2])
    found.pred_masks = torch.cat(filled)
    found = found[found.pred_masks.flatten(1).any(1)]
    return found[found.scores.argsort(descending=True)]


def semantic(
    logits: Tensor, masks: Tensor, frames: tuple[Size, Size, Size], temperature: float = 0.06
) -> Tensor:
    """``(K, *size)``: how much each class fills each pixel.

    A query votes with its mask for its classes; scores are sharpened by a softmax of ``temperature``, so that
    a query which is sure of nothing votes for all alike (Mask DINO).
    """
    votes = (logits.float().sigmoid() / temperature).softmax(-1)
    total = votes.new_zeros(logits.shape[1], *frames[2])
    for vote, part in zip(votes.split(_CHUNK), masks.split(_CHUNK), strict=True):
        total += torch.einsum("qk,qhw->khw", vote, enlarge(part, *frames).sigmoid())
    return total


def panoptic(
    logits: Tensor,
    masks: Tensor,
    frames: tuple[Size, Size, Size],
    things: int,
    score_threshold: float = 0.25,
    overlap_threshold: float = 0.8,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """A map ``size`` int32 of segments, 0 for none, and what they are: ``id``, ``isthing``, ``category_id``,
    ``score``; Detectron2's form, in which stuff counts from 1 (0 are all things together).

    Every pixel goes to the query whose score times mask is highest there; a query that keeps less than
    ``overlap_threshold`` of its own mask is left out (MaskFormer). Classes from ``things`` on are stuff,
    whose segments are one.
    """
    scores, classes = logits.float().sigmoid().max(-1)
    kept = (scores > score_threshold).nonzero()[:, 0]
    segments = torch.zeros(frames[2], dtype=torch.int32, device=logits.device)
    found: list[dict[str, Any]] = []
    if not len(kept):
        return segments, found
    share = torch.cat([enlarge(part, *frames).sigmoid() for part in masks[kept].split(_CHUNK)])
    owner = (scores[kept, None, None] * share).argmax(0)
    own = share >= 0.5
    mine = owner == torch.arange(len(kept), device=owner.device)[:, None, None]
    areas = torch.stack([m.flatten(1).sum(1) for m in (own, mine, own & mine)], 1).tolist()
    stuff: dict[int, int] = {}
    names = zip(classes[kept].tolist(), scores[kept].tolist(), areas, strict=True)
    for number, (name, score, (area, held, both)) in enumerate(names):
        if not both or held < overlap_threshold * area:
            continue
        if name in stuff:
            segments[own[number] & mine[number]] = stuff[name]
            continue
        category = name if name < things else name - things + 1
        found.append(
            {"id": len(found) + 1, "isthing": name < things, "category_id": category, "score": score}
        )
        segments[own[number] & mine[number]] = len(found)
        if name >= things:
            stuff[name] = len(found)
    return segments, found
