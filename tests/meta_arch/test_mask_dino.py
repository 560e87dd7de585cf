"""Mask DINO: targets of the three tasks, costs and losses of masks, what comes out."""

import math

import pytest
import torch
from detectron2.structures import BitMasks, Boxes, Instances, PolygonMasks
from torch import nn
from torch.nn import functional as F

from itpn_d2.meta_arch.dino.structures import MaskLogits, Predictions, Targets
from itpn_d2.meta_arch.mask_dino import MaskCriterion, MaskMatcher, inference
from itpn_d2.meta_arch.mask_dino.targets import make_targets, mask_boxes
from tests.meta_arch.small_dino import CLASSES, mask_dino, record, untrained

CPU = torch.device("cpu")
NAMES = ("class", "mask", "dice", "box", "giou")
LOSSES = {f"loss_{n}{s}" for n in NAMES for s in ("", "_aux", "_encoder", "_denoising")}
TASKS = ("instance", "semantic", "panoptic")


def labelled(item, task):
    """A record with ``sem_seg``: of the semantic task classes 0..2; of the panoptic one 0 for things, then
    two kinds of stuff; and a corner that is ignored."""
    height, width = item["image"].shape[-2:]
    labels = torch.full((height, width), 1)
    labels[:, width // 2 :] = 2
    for mask, kind in zip(item["instances"].gt_masks.tensor, item["instances"].gt_classes, strict=True):
        labels[mask] = 0 if task == "panoptic" else int(kind)
    labels[:4, :4] = 255
    found = {**item, "sem_seg": labels}
    if task == "semantic":
        del found["instances"]
    return found


def batch_of(task):
    items = [record(), record((48, 64), [[4, 4, 30, 30]], [0], seed=1)]
    return items if task == "instance" else [labelled(item, task) for item in items]


def lively(model):
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.endswith(("class_head.weight", "box_head.6.weight", "offsets.weight")):
            nn.init.normal_(parameter, std=0.1)
    return model


def test_boxes_of_masks():
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:7] = True
    masks[1] = True
    masks[2, 5, 0] = True
    assert mask_boxes(masks).tolist() == [[2, 1, 7, 4], [0, 0, 8, 6], [0, 5, 1, 6], [0, 0, 0, 0]]
    assert mask_boxes(masks[:0]).shape == (0, 4)


def test_targets_of_instances():
    found = make_targets(record(), "instance", (64, 128), 3, 3, CPU)
    assert found.classes.tolist() == [1, 2] and found.masks.shape == (2, 64, 128)
    torch.testing.assert_close(found.boxes[0], torch.tensor([24 / 96, 28 / 64, 32 / 96, 40 / 64]))
    assert int(found.masks[0].sum()) == 32 * 40


def test_targets_of_polygons():
    item = record(masks=False)
    polygon = [[8.0, 8, 40, 8, 40, 48, 8, 48]]
    item["instances"].gt_masks = PolygonMasks([polygon, polygon])
    found = make_targets(item, "instance", (64, 96), 3, 3, CPU)
    assert found.masks.dtype == torch.bool and abs(int(found.masks[0].sum()) - 32 * 40) < 80


def test_targets_of_a_semantic_map():
    item = labelled(record(), "semantic")
    found = make_targets(item, "semantic", (64, 96), 3, 3, CPU)
    assert found.classes.tolist() == [1, 2]
    assert not (found.masks[:, :4, :4]).any()
    assert torch.equal(found.masks[1], item["sem_seg"] == 2)
    torch.testing.assert_close(found.boxes[0, 2:], torch.tensor([48 / 96, 1.0]))


def test_targets_of_both():
    """Things keep their numbers, stuff comes after them."""
    item = labelled(record(), "panoptic")
    found = make_targets(item, "panoptic", (64, 96), 5, 3, CPU)
    assert found.classes.tolist() == [1, 2, 3, 4]
    assert torch.equal(found.masks[2], item["sem_seg"] == 1)
    assert torch.equal(found.masks[3], item["sem_seg"] == 2)
    item["sem_seg"][:] = 3  # a number of no class
    assert make_targets(item, "panoptic", (64, 96), 5, 3, CPU).classes.tolist() == [1, 2]


@pytest.mark.parametrize(
    "task, key", [("instance", "instances"), ("semantic", "sem_seg"), ("panoptic", "sem_seg")]
)
def test_missing_truth_is_named(task, key):
    item = record()
    if task == "instance":
        del item["instances"]
    with pytest.raises(ValueError, match=f"needs '{key}'"):
        make_targets({**item, "file_name": "a.png"}, task, (64, 96), 3, 3, CPU)


def test_missing_masks_are_named():
    with pytest.raises(ValueError, match="use_instance_mask"):
        make_targets(record(masks=False), "instance", (64, 96), 3, 3, CPU)


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


@pytest.mark.parametrize("task", TASKS)
def test_losses_reach_every_parameter(task):
    model = mask_dino(task)
    losses = model(batch_of(task))
    assert losses.keys() == LOSSES and all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not untrained(model)


@pytest.mark.parametrize("task", TASKS)
def test_outputs(task):
    model = lively(mask_dino(task)).eval()
    model.score_threshold = 0.0
    batch = [{**batch_of(task)[0], "height": 128, "width": 96}, batch_of(task)[1]]
    with torch.no_grad():
        first, second = model(batch)
    expected = {"instance": {"instances"}, "semantic": {"sem_seg"}}
    assert first.keys() == expected.get(task, {"instances", "sem_seg", "panoptic_seg"})
    if "instances" in first:
        found = first["instances"]
        assert found.image_size == (128, 96) and found.pred_masks.shape[1:] == (128, 96)
        assert found.pred_masks.dtype == torch.bool and found.pred_masks.flatten(1).any(1).all()
        assert torch.equal(found.scores, found.scores.sort(descending=True).values)
        assert int(found.pred_classes.max()) < CLASSES
    if "sem_seg" in first:
        assert first["sem_seg"].shape == (3, 128, 96) and second["sem_seg"].shape == (3, 48, 64)
        assert first["sem_seg"].isfinite().all()
    if "panoptic_seg" in first:
        segments, info = first["panoptic_seg"]
        assert segments.shape == (128, 96) and segments.dtype == torch.int32
        assert [s["id"] for s in info] == list(range(1, len(info) + 1))
        for s in info:
            assert 0 <= s["category_id"] < 3 and (s["isthing"] or s["category_id"] > 0)


def test_an_image_is_found_the_same_alone_and_in_a_batch():
    model = lively(mask_dino()).eval()
    batch = [record((40, 56), seed=1), record((96, 128), seed=2)]
    with torch.no_grad():
        both, alone = model(batch), [model([item])[0] for item in batch]
    for one, other in zip(both, alone, strict=True):
        one, other = one["instances"], other["instances"]
        # the masks' enlargement meets other padding: a few pixels of the border may differ
        torch.testing.assert_close(one.scores[:10], other.scores[:10], atol=5e-2, rtol=0)


def test_queries_start_around_masks():
    model = mask_dino()
    masks = MaskLogits(torch.eye(3)[None], torch.full((1, 3, 16, 24), -1.0))
    masks.features[0, 0, 2:6, 4:12] = 1.0
    masks.features[0, 1, :, :] = 1.0
    images = model.preprocess([{"image": record((60, 90))["image"]}])
    anchors = torch.zeros(1, 3, 4)
    boxes = model._around_masks(masks, anchors, images).sigmoid()[0]
    torch.testing.assert_close(
        boxes[0], torch.tensor([32 / 90, 16 / 60, 32 / 90, 16 / 60]), atol=1e-4, rtol=0
    )
    # to the image's end, whatever the mask says of padding: 15 rows and 23 columns of cells
    assert boxes[1].tolist() == pytest.approx([46 / 90, 30 / 60, 1.0, 1.0], abs=1e-4)
    assert boxes[2].tolist() == [0.5] * 4  # empty: as it was
    assert mask_dino(box_init="no").box_init == "no"


FRAMES = ((8, 8), (8, 8), (8, 8))


def halves():
    """Two queries of the left and the right half, a third in the middle of the left one."""
    masks = torch.full((3, 2, 2), -9.0)
    masks[0, :, 0] = masks[1, :, 1] = 9.0
    masks[2, 0, 0] = 5.0
    logits = torch.full((3, 4), -9.0)
    logits[0, 1], logits[1, 3], logits[2, 0] = 4.0, 4.0, -1.0
    return logits, masks


def test_panoptic_segments():
    segments, info = inference.panoptic(*halves(), FRAMES, things=2)
    assert [(s["id"], s["isthing"], s["category_id"]) for s in info] == [(1, True, 1), (2, False, 2)]
    assert (segments[:, :3] == 1).all() and (segments[:, 5:] == 2).all()


def test_stuff_of_one_kind_is_one_segment():
    logits, masks = halves()
    logits[0] = logits[1]
    segments, info = inference.panoptic(logits, masks, FRAMES, things=2)
    assert [(s["id"], s["category_id"]) for s in info] == [(1, 2)]
    assert (segments[:, :3] == 1).all() and (segments[:, 5:] == 1).all()


def test_hidden_queries_and_low_scores_are_left_out():
    logits, masks = halves()
    logits[2, 0] = 0.0
    _, info = inference.panoptic(logits, masks, FRAMES, things=2)
    assert len(info) == 2  # the third is sure enough, but the first takes its pixels
    segments, info = inference.panoptic(logits - 9, masks, FRAMES, things=2)
    assert info == [] and not segments.any()


def test_semantic_votes():
    logits, masks = halves()
    votes = inference.semantic(inference.class_scores(logits, 0.06), masks, FRAMES)
    assert votes.shape == (4, 8, 8)
    assert (votes.argmax(0)[:, :3] == 1).all() and (votes.argmax(0)[:, 5:] == 3).all()


def test_instances_score_by_class_and_mask():
    logits, masks = halves()
    boxes = torch.tensor([[0.25, 0.5, 0.5, 1.0]]).repeat(3, 1)
    found = inference.instances(logits, boxes, masks, FRAMES, count=2)
    assert found.pred_classes.sort().values.tolist() == [1, 3]
    assert found.pred_boxes.tensor[0].tolist() == [0, 0, 4, 8]
    inside = inference.enlarge(masks[:1], *FRAMES)[0]
    certainty = inside.sigmoid()[inside > 0].mean()
    assert found.scores[0].item() == pytest.approx((torch.tensor(4.0).sigmoid() * certainty).item(), abs=1e-5)


def test_scores_of_classes():
    logits = torch.tensor([[2.0, -1.0, 0.5], [-9.0, -9.0, -9.0]])
    assert torch.equal(inference.class_scores(logits, None), logits.sigmoid())
    sharp = inference.class_scores(logits, 0.06)
    torch.testing.assert_close(sharp, (logits.sigmoid() / 0.06).softmax(-1))
    torch.testing.assert_close(sharp[1], torch.full((3,), 1 / 3), atol=1e-3, rtol=0)  # sure of nothing
    one_fewer = inference.class_scores(logits, 0.06, no_object=True)
    torch.testing.assert_close(one_fewer, logits.softmax(-1)[:, :2])


def test_panoptic_scores_are_transformed():
    """A query whose best two classes are close by loses its pixels to one that is sure of its class."""
    masks = torch.full((2, 2, 2), 3.0)
    logits = torch.full((2, 4), -9.0)
    logits[0, 0], logits[0, 1], logits[1, 3] = 2.0, 1.9, 1.0
    _, plain = inference.panoptic(logits, masks, FRAMES, things=2)
    _, sharp = inference.panoptic(logits, masks, FRAMES, things=2, temperature=0.06)
    assert [s["category_id"] for s in plain] == [0] and [s["category_id"] for s in sharp] == [2]
    assert plain[0]["score"] == pytest.approx(torch.tensor(2.0).sigmoid().item())
    assert sharp[0]["score"] == pytest.approx(inference.class_scores(logits, 0.06).max(-1).values[1].item())


def test_things_first_or_last():
    logits, masks = halves()
    boxes = torch.tensor([[0.25, 0.5, 0.5, 3.0]]).repeat(3, 1)
    first = inference.instances(logits, boxes, masks, FRAMES, 2, things=2)
    last = inference.instances(logits, boxes, masks, FRAMES, 2, things=2, things_first=False)
    assert first.pred_classes.tolist() == [1, 0] and last.pred_classes.tolist() == [1]
    assert first.pred_boxes.tensor[0].tolist() == [0, 0, 4, 8]
    wide = inference.instances(logits, boxes, masks, FRAMES, 2, clip_boxes=False)
    assert wide.pred_boxes.tensor[0].tolist() == [0, -8, 4, 16]
    masks[0] = -9.0
    assert inference.instances(logits, boxes, masks, FRAMES, 2, things=2).pred_classes.tolist() == [0]
    kept = inference.instances(logits, boxes, masks, FRAMES, 2, things=2, drop_empty=False)
    assert kept.pred_classes.tolist() == [0, 1] and kept.scores[1] == 0


def test_scores_can_be_resized_instead_of_masks():
    logits, masks = halves()
    scores = inference.class_scores(logits, 0.06)
    frames = ((4, 4), (4, 3), (8, 6))
    found = inference.semantic(scores, masks, frames, resize="scores")
    small = inference.semantic(scores, masks, (*frames[:2], frames[1]))
    expected = F.interpolate(small[None], (8, 6), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, inference.semantic(scores, masks, frames))
    with pytest.raises(ValueError, match="choose masks, scores"):
        mask_dino(resize="boxes")


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_options_of_results_reach_them(task):
    model = lively(mask_dino(task)).eval()
    model.score_threshold = 0.0
    item = batch_of(task)[0]
    with torch.no_grad():
        [first] = model([item])
        model.transform_scores = False
        [plain] = model([item])
        model.transform_scores, model.temperature = True, 0.5
        [mild] = model([item])
    assert not torch.allclose(first["sem_seg"], plain["sem_seg"])
    assert not torch.allclose(first["sem_seg"], mild["sem_seg"])
    if task == "panoptic":
        assert first["panoptic_seg"][1] != plain["panoptic_seg"][1]


def published_semantic(**options):
    """As published for ADE20K: learnt queries, cross-entropy over one class more, a prediction from the
    queries as they start."""
    criterion = MaskCriterion(MaskMatcher(num_points=64), num_points=64, class_loss="cross_entropy")
    chosen = dict(two_stage=False, no_object=True, initial_prediction=True, resize="scores")
    return mask_dino("semantic", **{"criterion": criterion, **chosen, **options})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_published_semantic_recipe(dtype):
    model = published_semantic()
    batch = batch_of("semantic")
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        losses = model(batch)
    assert losses.keys() == {f"loss_{n}{s}" for n in NAMES for s in ("", "_aux", "_denoising")}
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert not untrained(model)
    with torch.no_grad():
        votes = model.eval()(batch)[0]["sem_seg"]
    assert votes.shape == (3, 64, 96) and votes.isfinite().all() and (votes >= 0).all()


def test_logits_fit_the_loss():
    with pytest.raises(ValueError, match="change one of them"):
        mask_dino("semantic", no_object=True)
    with pytest.raises(ValueError, match="change one of them"):
        mask_dino(criterion=MaskCriterion(MaskMatcher(num_points=4), class_loss="cross_entropy"))
    with pytest.raises(ValueError, match="only the semantic task"):
        mask_dino("panoptic", no_object=True, criterion=None)


def test_wrong_tasks():
    with pytest.raises(ValueError, match="choose instance, semantic, panoptic"):
        mask_dino("keypoints")
    with pytest.raises(ValueError, match="needs it"):
        mask_dino("panoptic", num_semantic_classes=None)
    with pytest.raises(ValueError, match="no use for it"):
        mask_dino("instance", num_semantic_classes=3)
    with pytest.raises(ValueError, match="the backbone has p2"):
        mask_dino(mask_feature="res2")


def test_under_mixed_precision():
    model = mask_dino()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(batch_of("instance"))
    assert all(loss.isfinite() for loss in losses.values())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert "instances" in model.eval()(batch_of("instance"))[0]


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
