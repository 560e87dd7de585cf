"""Mixing, erasing and smoothing of batches."""

import random

import numpy as np
import pytest
import torch

from itpn_d2.meta_arch import BatchAugmentation
from itpn_d2.seed import seed_step

LABELS = torch.tensor([0, 1, 2, 2])


def batch():
    return torch.stack([torch.full((3, 16, 16), float(i)) for i in range(4)])


OFF = {"mixup": 0.0, "cutmix": 0.0, "erasing": 0.0, "label_smoothing": 0.0}


def test_evaluation_mode_changes_nothing():
    module = BatchAugmentation().eval()
    images, targets = module(batch(), LABELS, 3)
    assert torch.equal(images, batch())
    assert torch.equal(targets, torch.eye(3)[LABELS])


def test_smoothing_alone():
    images, targets = BatchAugmentation(**{**OFF, "label_smoothing": 0.3})(batch(), LABELS, 3)
    assert torch.equal(images, batch())
    assert targets[0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert torch.allclose(targets.sum(1), torch.ones(4))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_targets_follow_what_is_in_the_image(kind, mode):
    module = BatchAugmentation(**{**OFF, kind: 1.0}, mix_mode=mode)
    mixed = 0
    for step in range(20):
        seed_step(0, step)
        images, targets = module(batch(), torch.arange(4), 4)
        values = torch.arange(4.0)
        # images are constant i: their mean is the mean of the classes in them
        assert torch.allclose(images.mean((1, 2, 3)), targets @ values, atol=1e-4)
        assert torch.allclose(targets.sum(1), torch.ones(4))
        mixed += int((targets.max(1).values < 1).any())
    assert mixed > 15


def test_erasing_fills_a_rectangle():
    torch.manual_seed(0)
    random.seed(0)
    module = BatchAugmentation(**{**OFF, "erasing": 1.0}, erasing_mode="const")
    images, targets = module(torch.ones(4, 3, 32, 32), LABELS, 3)
    share = (images == 0).float().mean((1, 2, 3))
    assert (share > 0.01).all() and (share < 0.4).all()
    assert torch.equal(targets, torch.eye(3)[LABELS])


def test_the_trainers_seed_decides():
    results = []
    for _ in range(2):
        seed_step(7, 1)
        results.append(BatchAugmentation(erasing=0.9)(batch(), LABELS, 3))
        np.random.rand(3)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_odd_batches_say_what_to_set():
    with pytest.raises(ValueError, match=r"a batch of 3 .*total_batch_size.*mixup=0"):
        BatchAugmentation()(batch()[:3], LABELS[:3], 3)
    BatchAugmentation(**OFF)(batch()[:3], LABELS[:3], 3)


@pytest.mark.parametrize(
    "options", [{"mix_mode": "x"}, {"erasing_mode": "x"}, {"label_smoothing": 1.0}, {"erasing": -0.1}]
)
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BatchAugmentation(**options)
