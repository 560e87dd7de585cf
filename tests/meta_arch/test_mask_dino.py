"""Mask DINO as a whole: losses, outputs and options of the three tasks."""

import pytest
import torch

from itpn_d2.meta_arch.dino.structures import MaskLogits
from itpn_d2.meta_arch.mask_dino import MaskCriterion, MaskMatcher
from tests.meta_arch.small_dino import CLASSES, batch_of, lively, mask_dino, record, untrained

CPU = torch.device("cpu")


NAMES = ("class", "mask", "dice", "box", "giou")


LOSSES = {f"loss_{n}{s}" for n in NAMES for s in ("", "_aux", "_encoder", "_denoising")}


TASKS = ("instance", "semantic", "panoptic")


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
    with pytest.raises(ValueError, match="the other tasks do not use it"):
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
