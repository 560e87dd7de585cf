"""From queries with classes and masks to instances, semantic maps and panoptic maps of one image."""

from typing import Any, Literal

import torch
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from ...layers import upload
from ..dino.dino import best_pairs, in_pixels

_CHUNK = 50  # masks that are enlarged at a time
Size = tuple[int, int]
Resize = Literal["masks", "scores"]


def enlarge(masks: Tensor, padded: Size, image: Size, size: Size) -> Tensor:
    """Logits ``(n, h, w)`` over a padded image to those of the image, ``(n, *size)``; all are (height,
    width)."""
    masks = F.interpolate(masks[None].float(), padded, mode="bilinear", align_corners=False)
    masks = masks[..., : image[0], : image[1]]
    return F.interpolate(masks, size, mode="bilinear", align_corners=False)[0]


def instances(
    logits: Tensor,
    boxes: Tensor,
    masks: Tensor,
    frames: tuple[Size, Size, Size],
    count: int,
    things: int | None = None,
    things_first: bool = True,
    drop_empty: bool = True,
    clip_boxes: bool = True,
) -> Instances:
    """The best pairs of query and class.

    Args:
        logits: ``(Q, K)``, of which the first ``things`` (None: all) count.
        boxes: ``(Q, 4)`` in fractions.
        masks: ``(Q, h, w)`` logits.
        frames: the last three arguments of :func:`enlarge`.
        count: so many pairs.
        things_first: they are chosen among the things; if not, among all classes, of which the things are
            kept, so that there are fewer (Mask DINO's code).
        drop_empty: leave out pairs without a mask; if not, they stay with a score of 0.
        clip_boxes: boxes end where the image ends.

    Returns:
        ``scores`` (of the class, times the mean probability within the mask), ``pred_classes``,
        ``pred_boxes`` and ``pred_masks`` bool at the size of the results, best first.
    """
    things = logits.shape[1] if things is None else things
    scores, queries, classes = best_pairs(logits[:, :things] if things_first else logits, count)
    filled, certainty = [], []
    for chosen in queries.split(_CHUNK):
        large = enlarge(masks[chosen], *frames)
        inside = large > 0
        filled.append(inside)
        area = inside.flatten(1).sum(1)
        certainty.append((large.sigmoid() * inside).flatten(1).sum(1) / area.clamp(min=1))
    scores = scores * torch.cat(certainty)
    found = Instances(frames[2], scores=scores, pred_classes=classes)
    found.pred_boxes = in_pixels(boxes[queries], frames[2], clip_boxes)
    found.pred_masks = torch.cat(filled)
    kept = classes < things
    if drop_empty:
        kept = kept & found.pred_masks.flatten(1).any(1)
    order = scores.argsort(descending=True)
    return found[order[kept[order].nonzero()[:, 0]]]  # by a mask, each field would wait for the device


def class_scores(logits: Tensor, temperature: float | None, no_object: bool = False) -> Tensor:
    """``(Q, K)`` how much a query stands for each class.

    Args:
        temperature: scores are sharpened by a softmax of it over their sigmoids, so that a query which is
            sure of nothing stands for all alike (Mask DINO: .06). None: the sigmoids.
        no_object: the logits are those of a cross-entropy, the last one is no object: a softmax without it.
    """
    if no_object:
        return logits.float().softmax(-1)[:, :-1]
    scores = logits.float().sigmoid()
    return scores if temperature is None else (scores / temperature).softmax(-1)


def semantic(
    scores: Tensor, masks: Tensor, frames: tuple[Size, Size, Size], resize: Resize = "masks"
) -> Tensor:
    """``(K, *size)``: how much each class fills each pixel; a query votes with its mask for its classes.

    Args:
        scores: ``(Q, K)``, of :func:`class_scores`.
        resize: to the size of the results either all masks before they vote, or the sum of the votes (Mask
            DINO's code for the semantic task alone: it needs less memory and time, and blurs).
    """
    last = frames[2] if resize == "masks" else frames[1]
    total = scores.new_zeros(scores.shape[1], *last)
    for vote, part in zip(scores.split(_CHUNK), masks.split(_CHUNK), strict=True):
        total += torch.einsum("qk,qhw->khw", vote, enlarge(part, frames[0], frames[1], last).sigmoid())
    if resize == "scores":
        total = F.interpolate(total[None], frames[2], mode="bilinear", align_corners=False)[0]
    return total


def panoptic(
    logits: Tensor,
    masks: Tensor,
    frames: tuple[Size, Size, Size],
    things: int,
    score_threshold: float = 0.25,
    overlap_threshold: float = 0.8,
    temperature: float | None = None,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """A map ``size`` int32 of segments, 0 for none, and what they are: ``id``, ``isthing``, ``category_id``,
    ``score``; Detectron2's form, in which stuff counts from 1 (0 are all things together).

    Every pixel goes to the query whose score times mask is highest there; a query that keeps less than
    ``overlap_threshold`` of its own mask is left out (MaskFormer). Classes from ``things`` on are stuff,
    whose segments are one. Queries are kept by their sigmoid; with ``temperature`` the score is then that of
    :func:`class_scores`.

    Args:
        logits: ``(Q, K)``.
        masks: ``(Q, h, w)`` logits.
        frames: as in :func:`instances`; the last is the size of the map, ``(H, W)``.
        things: classes below this number are things.
        score_threshold, overlap_threshold: in fractions.
    """
    sure, best = logits.float().sigmoid().max(-1)
    scores = sure if temperature is None else class_scores(logits, temperature).max(-1).values
    segments = torch.zeros(frames[2], dtype=torch.int32, device=logits.device)
    found: list[dict[str, Any]] = []
    table = torch.stack((sure.double(), scores.double(), best.double()), 1).tolist()  # one transfer
    kept = [number for number, (certain, _, _) in enumerate(table) if certain > score_threshold]
    if not kept:
        return segments, found
    chosen = upload(torch.tensor(kept), logits.device)
    share = torch.cat([enlarge(part, *frames).sigmoid() for part in masks[chosen].split(_CHUNK)])
    owner = (scores[chosen, None, None] * share).argmax(0)
    own = share >= 0.5
    mine = owner == torch.arange(len(kept), device=owner.device)[:, None, None]
    both = own & mine
    areas = torch.stack([m.flatten(1).sum(1) for m in (own, mine, both)], 1).tolist()
    stuff: dict[int, int] = {}
    for number, (query, (area, held, shared)) in enumerate(zip(kept, areas, strict=True)):
        if not shared or held < overlap_threshold * area:
            continue
        name = int(table[query][2])
        segment = stuff.get(name, len(found) + 1)
        if segment > len(found):
            category = name if name < things else name - things + 1
            score = table[query][1]
            found.append({"id": segment, "isthing": name < things, "category_id": category, "score": score})
        if name >= things:
            stuff[name] = segment
        segments.masked_fill_(both[number], segment)
    return segments, found
