"""Matching and losses against brute force."""

import itertools

import numpy as np
import pytest
import torch

from itpn_d2.meta_arch.dino.criterion import Criterion
from itpn_d2.meta_arch.dino.denoising import Denoising
from itpn_d2.meta_arch.dino.matcher import HungarianMatcher
from itpn_d2.meta_arch.dino.structures import Predictions, Targets


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def focal(logit, positive, alpha=0.25, gamma=2.0):
    p = sigmoid(logit)
    return -alpha * (1 - p) ** gamma * np.log(p) if positive else -(1 - alpha) * p**gamma * np.log(1 - p)


def corners(box):
    x, y, w, h = box
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def giou(one, other):
    a, b = corners(one), corners(other)
    overlap = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = one[2] * one[3] + other[2] * other[3] - overlap
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return overlap / union - (hull - union) / hull


def sample(seed, queries=5, counts=(3, 2), classes=4):
    generator = torch.Generator().manual_seed(seed)

    def boxes(*size):
        return torch.rand(*size, 4, generator=generator) * 0.5 + 0.2

    predictions = Predictions(
        torch.randn(len(counts), queries, classes, generator=generator), boxes(len(counts), queries)
    )
    targets = [Targets(torch.randint(classes, (n,), generator=generator), boxes(n)) for n in counts]
    return predictions, targets


def cost(predictions, image, query, target, number):
    logit = float(predictions.logits[image, query, target.classes[number]])
    box, wanted = predictions.boxes[image, query].tolist(), target.boxes[number].tolist()
    distance = sum(abs(a - b) for a, b in zip(box, wanted, strict=True))
    return 2 * (focal(logit, True) - focal(logit, False)) + 5 * distance - 2 * giou(box, wanted)


@pytest.mark.parametrize("seed", range(5))
def test_the_assignment_is_the_cheapest(seed):
    predictions, targets = sample(seed)
    [matches] = HungarianMatcher()([predictions], targets)
    for image, target in enumerate(targets):
        table = [[cost(predictions, image, q, target, n) for n in range(len(target))] for q in range(5)]
        found = HungarianMatcher().costs(predictions, image, target)
        np.testing.assert_allclose(found.numpy(), table, atol=1e-5)
        best = min(
            itertools.permutations(range(5), len(target)),
            key=lambda queries: sum(table[q][n] for n, q in enumerate(queries)),
        )
        assert dict(zip(*(x.tolist() for x in matches[image]), strict=True)) == {
            q: n for n, q in enumerate(best)
        }


def test_several_layers_and_images_without_objects():
    first, targets = sample(0, counts=(3, 0))
    second, _ = sample(1, counts=(3, 0))
    found = HungarianMatcher()([first, second], targets)
    assert [[len(q) for q, _ in row] for row in found] == [[3, 0], [3, 0]]
    [alone] = HungarianMatcher()([second], targets)
    assert all(torch.equal(a, b) for a, b in zip(found[1][0], alone[0], strict=True))


def test_more_objects_than_queries():
    predictions, targets = sample(0, queries=2, counts=(5,))
    [[(queries, objects)]] = HungarianMatcher()([predictions], targets)
    assert sorted(queries.tolist()) == [0, 1] and len(set(objects.tolist())) == 2


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 0.0])
def test_degenerate_boxes_are_matched_all_the_same(bad):
    predictions, targets = sample(0)
    predictions.boxes[0, 1] = bad
    predictions.boxes[0, 2, 2:] = 0
    targets[0].boxes[0, 2:] = 0
    [matches] = HungarianMatcher()([predictions], targets)
    assert sorted(matches[0][1].tolist()) == [0, 1, 2]
    if bad != 0.0:
        assert 1 not in matches[0][0].tolist()


def test_half_precision_is_matched_in_float32():
    predictions, targets = sample(0)
    half = Predictions(predictions.logits.bfloat16(), predictions.boxes)
    with torch.autocast("cpu", torch.bfloat16):
        costs = HungarianMatcher().costs(half, 0, targets[0])
        matches = HungarianMatcher()([half], targets)
    assert costs.dtype == torch.float32
    rounded = Predictions(half.logits.float(), predictions.boxes)
    [[(queries, _), _]] = matches
    assert torch.equal(queries, HungarianMatcher()([rounded], targets)[0][0][0])


def test_losses_are_what_loops_say():
    predictions, targets = sample(3)
    criterion = Criterion(HungarianMatcher())
    [matches] = criterion.matcher([predictions], targets)
    losses = criterion([predictions], predictions, targets)
    classes = boxes = overlaps = 0.0
    for image, (queries, objects) in enumerate(matches):
        found = dict(zip(queries.tolist(), objects.tolist(), strict=True))
        for query in range(5):
            label = int(targets[image].classes[found[query]]) if query in found else -1
            for number, logit in enumerate(predictions.logits[image, query].tolist()):
                classes += focal(logit, number == label)
        for query, number in found.items():
            box, wanted = predictions.boxes[image, query].tolist(), targets[image].boxes[number].tolist()
            boxes += sum(abs(a - b) for a, b in zip(box, wanted, strict=True))
            overlaps += 1 - giou(box, wanted)
    expected = {"loss_class": classes / 5, "loss_box": 5 * boxes / 5, "loss_giou": 2 * overlaps / 5}
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4)
        assert losses[f"{name}_encoder"].item() == pytest.approx(value, rel=1e-4)


def test_layers_are_summed_and_noisy_queries_divided_by_their_groups():
    predictions, targets = sample(3)
    criterion = Criterion(HungarianMatcher(), weights={"class": 2.0})
    one = criterion([predictions], predictions, targets)
    three = criterion([predictions] * 3, predictions, targets)
    for name in ("class", "box", "giou"):
        assert three[f"loss_{name}_aux"].item() == pytest.approx(2 * one[f"loss_{name}"].item())
        assert three[f"loss_{name}"].item() == pytest.approx(one[f"loss_{name}"].item())
    assert one["loss_class"].item() == pytest.approx(
        2 * Criterion(HungarianMatcher())([predictions], predictions, targets)["loss_class"].item()
    )
    targets = [Targets(t.classes, t.boxes * 0.5 + 0.2) for t in targets]  # within the image
    noisy = Denoising(4, 8, number=6, label_noise=0.0, box_noise=0.0)(targets, 5)
    assert noisy.groups == 2
    exact = Predictions(torch.full((2, len(noisy), 4), -20.0), noisy.anchors.sigmoid())
    for image, (queries, objects) in enumerate(noisy.matches):
        exact.logits[image, queries, targets[image].classes[objects]] = 20.0
    losses = criterion([predictions], predictions, targets, [exact], noisy)
    assert all(losses[f"loss_{n}_denoising"].item() < 1e-3 for n in ("class", "box", "giou"))
    shifted = Predictions(exact.logits, exact.boxes + 0.01)
    losses = criterion([predictions], predictions, targets, [shifted], noisy)
    assert losses["loss_box_denoising"].item() == pytest.approx(5 * 0.04, rel=1e-2)


def test_without_objects_losses_are_finite_and_have_gradients():
    predictions, targets = sample(0, counts=(0, 0))
    logits, boxes = predictions.logits.requires_grad_(), predictions.boxes.requires_grad_()
    losses = Criterion(HungarianMatcher())([predictions], predictions, targets)
    assert losses["loss_box"].item() == losses["loss_giou"].item() == 0
    assert losses["loss_class"].item() > 0
    sum(losses.values()).backward()
    assert logits.grad.isfinite().all() and not boxes.grad.any()


def test_the_order_of_images_and_objects_does_not_matter():
    predictions, targets = sample(5)
    criterion = Criterion(HungarianMatcher())
    flipped = Predictions(predictions.logits.flip(0), predictions.boxes.flip(0))
    shuffled = [Targets(t.classes.flip(0), t.boxes.flip(0)) for t in reversed(targets)]
    one = criterion([predictions], predictions, targets)
    other = criterion([flipped], flipped, shuffled)
    assert {k: v.item() for k, v in other.items()} == pytest.approx({k: v.item() for k, v in one.items()})


def test_unknown_weights_are_named():
    with pytest.raises(ValueError, match=r"\['mask'\]: the losses of this criterion are class, box, giou"):
        Criterion(HungarianMatcher(), weights={"mask": 1.0})


def test_objects_are_counted_over_processes(monkeypatch):
    """With two processes of 5 and 1 objects, each divides by 3."""
    predictions, targets = sample(3)
    alone = Criterion(HungarianMatcher())([predictions], predictions, targets)["loss_box"].item()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.add_(1))
    both = Criterion(HungarianMatcher())([predictions], predictions, targets)["loss_box"].item()
    assert both == pytest.approx(alone * 5 / 3)
