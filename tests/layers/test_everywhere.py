"""Means over the examples of all processes, however many each has."""

import pytest
import torch
from detectron2.structures import Boxes, Instances, Keypoints
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from itpn_d2.heads import CascadeROIHeads, KeypointHead, SemSegFPNHead
from itpn_d2.heads.semantic import SemanticHead
from itpn_d2.layers import everywhere, shares
from pretrain.methods.base import masked_mean
from tests.engine.forked import forked

COUNTS = (3, 1)  # examples of each process


def own():
    """Numbers of the examples that this process has: all, or its part."""
    if comm.get_world_size() == 1:
        return list(range(sum(COUNTS)))
    start = sum(COUNTS[: comm.get_rank()])
    return list(range(start, start + COUNTS[comm.get_rank()]))


def numbers(*shape):
    return torch.randn(sum(COUNTS), *shape, generator=torch.Generator().manual_seed(1))


class Plain(SemanticHead):
    """Features are logits."""

    def layers(self, features):
        return features


def semantic(head_class):
    """Gradient of the head's loss of an image for each example."""
    logits = numbers(3, 2, 2)[own()].requires_grad_()
    labels = torch.zeros(len(own()), 2, 2, dtype=torch.int64)
    head = head_class.__new__(head_class)
    nn.Module.__init__(head)
    head.ignore_value, head.loss_weight, head.loss_name = 255, 1.0, "loss_sem_seg"
    head.common_stride = 1
    if head_class is SemSegFPNHead:
        (loss,) = head.losses(logits, labels).values()
    else:
        head.dropout, head.predictor = nn.Identity(), nn.Identity()
        (loss,) = head(logits, labels)[1].values()
    loss.backward()
    return logits.grad


def keypoints():
    """Gradient of the head's loss of a keypoint for each example."""
    head = KeypointHead.__new__(KeypointHead)
    nn.Module.__init__(head)
    head.num_keypoints, head.loss_weight, head.loss_normalizer = 1, 1.0, "visible"
    head.layers = lambda x: x
    x = numbers(1, 4, 4)[own()].requires_grad_()
    person = Instances((8, 8), proposal_boxes=Boxes(torch.tensor([[0.0, 0, 8, 8]] * len(x))))
    person.gt_keypoints = Keypoints(torch.tensor([[[2.0, 5.0, 2.0]]] * len(x)))
    with EventStorage():
        head(x, [person])["loss_keypoint"].backward()
    return x.grad


def masks():
    x = numbers(5)[own()].requires_grad_()
    masked_mean(x.square(), torch.ones_like(x, dtype=torch.bool)).backward()
    return x.grad


LOSSES = {
    "semantic": lambda: semantic(Plain),
    "semantic_fpn": lambda: semantic(SemSegFPNHead),
    "keypoints": keypoints,
    "masks": masks,
}


def test_losses_are_means_over_all_examples(tmp_path):
    def gradients():
        return {name: loss() for name, loss in LOSSES.items()}

    expected = gradients()
    found = forked(2, gradients, tmp_path)
    for name, gradient in expected.items():
        together = torch.cat([one[name] for one in found]) / 2  # as DDP averages them
        torch.testing.assert_close(together, gradient)


def test_each_stage_of_a_cascade_has_its_own_number(tmp_path):
    def weighed():
        heads = CascadeROIHeads.__new__(CascadeROIHeads)
        nn.Module.__init__(heads)
        heads._shares = shares(torch.tensor([2, 2]))
        heads._kept = [COUNTS[comm.get_rank()], 0]
        losses = {f"loss_{kind}_stage{k}": torch.ones(()) for kind in ("cls", "box_reg") for k in range(3)}
        return heads._weigh_boxes(losses)

    for count, losses in zip(COUNTS, forked(2, weighed, tmp_path), strict=True):
        for name, loss in losses.items():
            assert loss.item() == (1.0, count / 2, 0.0)[int(name[-1])]


def test_what_no_step_shares_is_counted_alone(tmp_path):
    def counts():
        with torch.no_grad():
            assert shares(torch.tensor(COUNTS)) is None
            alone = everywhere(torch.tensor(comm.get_rank()))
        return alone.item(), everywhere(torch.tensor(comm.get_rank())).item()

    assert forked(2, counts, tmp_path) == [(0, 0.5), (1, 0.5)]
    assert everywhere(torch.tensor(3)).item() == 3 and shares(torch.tensor(3)) is None


@pytest.mark.parametrize("count", [0, 5])
def test_one_process_changes_nothing(count):
    mask = torch.arange(10).view(2, 5) < count
    assert masked_mean(torch.ones(2, 5), mask).item() == bool(count)
