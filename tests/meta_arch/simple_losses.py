"""The losses of DINO and Mask DINO as simply as they can be written, layer by layer and image by image:
what the criteria compute side by side must equal this."""

import torch
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss

from itpn_d2.layers import sample_points


def layer_losses(criterion, predictions, targets, matches, count, ignored=None):
    """Losses of one layer without weights; queries ``ignored`` ``(B, Q)`` have none of classes."""
    classes, boxes, overlaps, entropies, dices, importances = [], [], [], [], [], []
    for image, (target, (queries, objects)) in enumerate(zip(targets, matches, strict=True)):
        logits = predictions.logits[image].float()
        kept = torch.ones(len(logits)) if ignored is None else (~ignored[image]).float()
        if criterion.class_loss == "focal":
            wanted = torch.zeros_like(logits)
            wanted[queries, target.classes[objects]] = 1
            focal = sigmoid_focal_loss(logits, wanted, criterion.alpha, criterion.gamma)
            classes.append((focal.sum(1) * kept).sum())
        else:
            wanted = torch.full((len(logits),), logits.shape[1] - 1)
            wanted[queries] = target.classes[objects]
            weights = torch.ones(logits.shape[1])
            weights[-1] = criterion.no_object_weight
            classes.append((F.cross_entropy(logits, wanted, weights, reduction="none") * kept).sum())
            importances.append((weights[wanted] * kept).sum())
        found, known = predictions.boxes[image][queries], target.boxes[objects]
        things = getattr(criterion, "things", None)
        has_box = torch.ones(len(objects)) if things is None else (target.classes[objects] < things).float()
        boxes.append((F.l1_loss(found, known, reduction="none").sum(1) * has_box).sum())
        corners = (box_convert(b, "cxcywh", "xyxy") for b in (found, known))
        apart = generalized_box_iou_loss(*corners, eps=criterion.giou_eps)
        overlaps.append((apart * has_box).sum())
        if predictions.masks is not None and len(queries):
            masks = predictions.masks.of(image, queries).float()[:, None]
            points = criterion.points(masks)
            seen = sample_points(masks, points)[:, 0]
            truth = sample_points(target.masks[objects][:, None], points)[:, 0]
            entropies.append(F.binary_cross_entropy_with_logits(seen, truth, reduction="none").mean(1).sum())
            share = seen.sigmoid()
            dices.append((1 - (2 * (share * truth).sum(1) + 1) / (share.sum(1) + truth.sum(1) + 1)).sum())
    scale = count if criterion.class_loss == "focal" else sum(importances).clamp(min=1e-6)
    losses = {"class": sum(classes) / scale, "box": sum(boxes) / count, "giou": sum(overlaps) / count}
    if predictions.masks is not None:
        losses |= {"mask": sum(entropies) / count, "dice": sum(dices) / count}
    return losses


def total_losses(criterion, layers, selected, targets, noisy_layers=(), noisy=None):
    """What ``criterion(...)`` returns."""
    count = max(1.0, sum(len(t) for t in targets))
    matching = [*layers, *([] if selected is None else [selected])]
    matches = criterion.matcher(matching, targets)
    suffixes = ["_aux"] * (len(layers) - 1) + ["", "_encoder"]
    parts = [(s, p, m, count, None) for s, p, m in zip(suffixes, matching, matches, strict=False)]
    if noisy is not None:
        ignored = None if criterion.unused_slots else noisy.unused[:, : len(noisy)]
        alike = (noisy.matches, count * noisy.groups, ignored)
        parts += [("_denoising", p, *alike) for p in noisy_layers]
    totals = {}
    for suffix, predictions, found, number, ignored in parts:
        for name, loss in layer_losses(criterion, predictions, targets, found, number, ignored).items():
            key = f"loss_{name}{suffix}"
            totals[key] = totals.get(key, 0.0) + criterion.weights[name] * loss
    return totals
