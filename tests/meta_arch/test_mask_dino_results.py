"""What the outputs of Mask DINO become: segments, votes, instances."""

import pytest
import torch
from torch.nn import functional as F

from itpn_d2.meta_arch.mask_dino import inference
from tests.meta_arch.small_dino import mask_dino

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
