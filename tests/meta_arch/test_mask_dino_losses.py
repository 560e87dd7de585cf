"""Mask DINO's matching costs and losses of masks."""

import math

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from torch.nn import functional as F

from itpn_d2.meta_arch.dino.structures import MaskLogits, Predictions, Targets
from itpn_d2.meta_arch.mask_dino import MaskCriterion, MaskMatcher
from tests.meta_arch.small_dino import mask_dino, record


def sample(seed=0, queries=5, counts=(3, 2), size=(8, 12)):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(len(counts), queries, 6, generator=generator)
    features = torch.randn(len(counts), 6, *size, generator=generator)
    predictions = Predictions(
        torch.randn(len(counts), queries, 4, generator=generator),
        torch.rand(len(counts), queries, 4, generator=generator) * 0.5 + 0.2,
        MaskLogits(embeddings, features),
    )
    targets = [
        Targets(
            torch.randint(4, (n,), generator=generator),
            torch.rand(n, 4, generator=generator) * 0.5 + 0.2,
            torch.rand(n, size[0] * 4, size[1] * 4, generator=generator) > 0.5,
        )
        for n in counts
    ]
    return predictions, targets


def test_masks_are_products():
    predictions, _ = sample()
    expected = torch.einsum("bqc,bchw->bqhw", predictions.masks.embeddings, predictions.masks.features)
    torch.testing.assert_close(predictions.masks.of(1), expected[1])
    torch.testing.assert_close(predictions.masks.of(0, torch.tensor([4, 1])), expected[0, [4, 1]])
    torch.testing.assert_close(predictions.queries(1, 3).masks.of(0), expected[0, 1:3])


def test_costs_of_masks_are_what_sampled_masks_give():
    predictions, targets = sample()
    matcher = MaskMatcher(class_cost=0, box_cost=0, giou_cost=0, mask_cost=2.0, dice_cost=3.0, num_points=50)
    seen = {}
    original = matcher.costs

    def noting(p, image, t):
        seen[image] = original(p, image, t)
        return seen[image]

    matcher.costs = noting
    matcher([predictions], targets)
    grid = (matcher.points * 2 - 1)[None, None]
    for image, target in enumerate(targets):
        masks = predictions.masks.of(image)[None]
        logits = F.grid_sample(masks, grid, align_corners=False)[0, :, 0]
        wanted = F.grid_sample(target.masks[None].float(), grid, align_corners=False)[0, :, 0]
        for query in range(5):
            for number in range(len(target)):
                entropy = F.binary_cross_entropy_with_logits(logits[query], wanted[number])
                share = logits[query].sigmoid()
                dice = 1 - (2 * (share * wanted[number]).sum() + 1) / (share.sum() + wanted[number].sum() + 1)
                assert seen[image][query, number].item() == pytest.approx(
                    (2 * entropy + 3 * dice).item(), abs=1e-4
                )


def test_boxes_of_stuff_cost_the_mean_of_things():
    predictions, targets = sample()
    targets[0] = Targets(torch.tensor([0, 3, 1]), targets[0].boxes, targets[0].masks)
    matcher = MaskMatcher(things=2)
    given = torch.arange(15.0).reshape(5, 3)
    found = matcher.box_costs(given, targets[0])
    assert torch.equal(found[:, [0, 2]], given[:, [0, 2]])
    assert torch.equal(found[:, 1], given[:, [0, 2]].mean(1))
    stuff = Targets(torch.tensor([2, 3]), targets[1].boxes, targets[1].masks)
    assert not matcher.box_costs(given[:, :2], stuff).any()


def test_right_masks_cost_nothing_and_stuff_has_no_box_loss():
    _, targets = sample(counts=(2,))
    target = Targets(torch.tensor([0, 3]), targets[0].boxes, torch.zeros(2, 32, 48, dtype=torch.bool))
    target.masks[0, :16], target.masks[1, 16:] = True, True
    features = torch.stack([F.avg_pool2d(m[None].float(), 4)[0] * 40 - 20 for m in target.masks])
    exact = Predictions(
        torch.tensor([[[20.0, -20, -20, -20], [-20, -20, -20, 20]]]),
        torch.stack((target.boxes[0], target.boxes[1] + 0.1))[None],
        MaskLogits(torch.eye(2)[None], features[None]),
    )
    matcher = MaskMatcher(num_points=64, things=2)
    criterion = MaskCriterion(matcher, num_points=64, importance=0.0, things=2)
    losses = criterion([exact], exact, [target])
    assert all(losses[f"loss_{n}"].item() < 1e-4 for n in ("class", "box", "giou"))
    assert losses["loss_mask"].item() < 1.5 and losses["loss_dice"].item() < 0.5  # the edge alone
    wrong = Predictions(exact.logits, exact.boxes, MaskLogits(-torch.eye(2)[None], features[None]))
    matcher.things = None
    assert criterion([exact], exact, [target])["loss_box"].item() < 1e-4  # the matcher's things are its own
    criterion.things = None
    assert criterion([exact], exact, [target])["loss_box"].item() == pytest.approx(5 * 0.4 / 2, rel=1e-4)
    straight = [(torch.arange(2), torch.arange(2))]
    criterion.matcher = lambda layers, targets: [straight for _ in layers]
    assert criterion([wrong], wrong, [target])["loss_mask"].item() > 5 * 15


def test_without_objects():
    predictions, targets = sample(counts=(0, 0))
    predictions.masks.embeddings.requires_grad_()
    predictions.logits.requires_grad_()
    losses = MaskCriterion(MaskMatcher(num_points=16), num_points=16)([predictions], predictions, targets)
    assert losses["loss_mask"].item() == losses["loss_dice"].item() == 0
    sum(losses.values()).backward()
    assert predictions.masks.embeddings.grad is not None


def test_no_masks_at_all_in_an_empty_image():
    instances = Instances((64, 96), gt_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long())
    instances.gt_masks = BitMasks(torch.zeros(0, 64, 96))
    losses = mask_dino()([{**record(), "instances": instances}])
    assert losses["loss_mask"].item() == 0 and math.isfinite(sum(losses.values()).item())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_matcher_in_half_precision_finds_what_float64_finds(dtype, layout):
    generator = torch.Generator().manual_seed(3)
    count, size = 12, 256  # maps of 65536 cells: offsets beyond 16 bits in both formats
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for number in range(count):
        row, column = divmod(number, 4)
        masks[number, row * 80 + 5 : row * 80 + 60, column * 60 + 5 : column * 60 + 50] = True
    order = torch.randperm(count, generator=generator)
    features = (masks[order].float() * 16 - 8)[None].to(dtype).contiguous(memory_format=layout)
    alike = torch.zeros(1, count, 3), torch.full((1, count, 4), 0.5)  # only masks tell queries apart
    target = Targets(torch.zeros(count, dtype=torch.long), torch.full((count, 4), 0.5), masks)
    matcher = MaskMatcher(num_points=2048)
    half = Predictions(
        alike[0].to(dtype), alike[1], MaskLogits(torch.eye(count, dtype=dtype)[None], features)
    )
    exact = Predictions(*alike, MaskLogits(torch.eye(count, dtype=torch.float64)[None], features.double()))
    (queries, objects), (expected_queries, expected_objects) = (
        matcher([p], [target])[0][0] for p in (half, exact)
    )
    assert torch.equal(queries, expected_queries) and torch.equal(objects, expected_objects)
    assert torch.equal(order[queries], objects)  # the truth, for the exact one as well
