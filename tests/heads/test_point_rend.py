"""Detectron2's PointRend head from plain arguments."""

import torch
from detectron2.projects.point_rend import PointRendMaskHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from itpn_d2.heads import point_rend_mask_head


def head():
    torch.manual_seed(0)
    return point_rend_mask_head(3, in_channels=16, coarse_fc_dim=32, point_fc_dim=16, subdivision_steps=3)


def test_it_learns_a_mask():
    mask_head = head()
    assert isinstance(mask_head, PointRendMaskHead)
    features = {"p2": torch.randn(1, 16, 16, 16)}
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[:, 16:40, 10:50] = True
    target = Instances(
        (64, 64), proposal_boxes=Boxes(torch.tensor([[8.0, 8, 52, 48]])), gt_masks=BitMasks(masks)
    )
    target.gt_classes = torch.tensor([1])
    optimizer = torch.optim.Adam(mask_head.parameters(), 1e-3)
    totals = []
    with EventStorage():
        for _ in range(60):
            losses = mask_head(features, [target])
            assert losses.keys() == {"loss_mask", "loss_mask_point"}
            total = sum(losses.values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            totals.append(total.item())
    assert totals[-1] < 0.5 * totals[0]
    assert all(p.grad is not None for p in mask_head.parameters())


def test_background_alone_trains():
    mask_head = head()
    nothing = Instances((64, 64), proposal_boxes=Boxes(torch.zeros(0, 4)))
    nothing.gt_masks = BitMasks(torch.zeros(0, 64, 64))
    nothing.gt_classes = torch.zeros(0, dtype=torch.int64)
    with EventStorage():
        losses = mask_head({"p2": torch.randn(2, 16, 16, 16)}, [nothing, nothing])
    assert losses.keys() == {"loss_mask", "loss_mask_point"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in mask_head.parameters())


def test_its_masks_are_finer_than_the_coarse_ones():
    mask_head = head().eval()
    found = Instances((64, 64), pred_boxes=Boxes(torch.tensor([[8.0, 8, 52, 48]] * 2)))
    found.pred_classes = torch.tensor([0, 2])
    with torch.no_grad():
        (result,) = mask_head({"p2": torch.randn(1, 16, 16, 16)}, [found])
    assert result.pred_masks.shape == (2, 1, 56, 56)  # 7 doubled three times


def test_mixed_precision_samples_the_right_cells():
    """Maps of more than 32767 numbers, channels last, as a backbone in bfloat16 gives them."""
    mask_head = head().eval()
    with torch.no_grad():  # nearly constant masks at first would hide wrong samples
        for parameter in mask_head.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
        mask_head.point_head.predictor.weight.mul_(50)
    maps = torch.randn(1, 16, 64, 64)
    found = Instances((256, 256), pred_boxes=Boxes(torch.tensor([[30.0, 40, 240, 250]])))
    found.pred_classes = torch.tensor([1])
    with torch.no_grad():
        (expected,) = mask_head({"p2": maps}, [found])
        expected = expected.pred_masks.clone()
        half = maps.bfloat16().contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            (result,) = mask_head({"p2": half}, [found])
    apart = (result.pred_masks.float() - expected).abs()
    # which points are refined may differ; wrong cells would change most of the mask
    assert apart.median() < 0.03 and apart.mean() < 0.06 and expected.std() > 0.2
