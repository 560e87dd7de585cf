"""The CLIP teacher: what it sees, and what keeps it frozen and unsaved."""

import copy

import pytest
import torch
from torch import nn

from itpn_d2.solver.ema import WeightAverage
from pretrain.targets import CLIPTeacher
from pretrain.targets.teacher import CLIP_MEAN, CLIP_STD

NAME = "vit_base_patch16_clip_224"
WIDTH, HEADS, PATCH = 32, 2, 16
MICRO = {"embed_dim": WIDTH, "depth": 2, "num_heads": HEADS}


def micro(**options):
    return CLIPTeacher(**{"name": NAME, "random": True, "image_size": 64, "options": MICRO, **options})


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)


def test_images_are_in_0_to_255():
    """The mean colour becomes 0; a step of one standard deviation becomes 1, in RGB."""
    seen = []
    teacher = micro()
    teacher.tower.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    teacher((mean + std * torch.tensor([0.0, 1.0, -1.0]).view(3, 1, 1)).expand(1, 3, 64, 64))
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), torch.tensor([0.0, 1.0, -1.0]), rtol=0, atol=1e-5)
    assert [round(m / 255, 4) for m in CLIP_MEAN] == [0.4815, 0.4578, 0.4082]
    assert [round(s / 255, 4) for s in CLIP_STD] == [0.2686, 0.2613, 0.2758]


def test_bytes_and_floats_agree(images):
    teacher = micro()
    assert torch.equal(teacher(images), teacher(images.float()))
    with torch.autocast("cpu", torch.bfloat16):
        half = teacher(images)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, teacher(images), rtol=0, atol=0.1)
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\), not \(2, 3, 32, 32\)"):
        teacher(images[..., :32, :32])


class Method(nn.Module):
    def __init__(self):
        super().__init__()
        self.student, self.teacher = nn.Linear(2, 2), micro(features="projected")


def test_frozen_and_always_evaluating(images):
    method = Method().train()
    assert not any(m.training for m in method.teacher.modules()) and method.student.training
    assert not any(p.requires_grad for p in method.teacher.parameters())
    assert not method.teacher(images).requires_grad


def test_leaves_no_trace_in_checkpoints(images):
    method = Method()
    before = method.teacher(images)
    state = method.state_dict()
    assert list(state) == ["student.weight", "student.bias"] and not method.teacher.state_dict()
    assert not method.load_state_dict(state).missing_keys
    with pytest.raises(RuntimeError, match="student.bias"):
        method.load_state_dict({"student.weight": state["student.weight"]})
    with pytest.raises(RuntimeError, match="other"):
        method.load_state_dict({**state, "other": state["student.bias"]})
    method.load_state_dict(state, assign=True)
    assert torch.equal(method.teacher(images), before)


def test_copies_share_the_teacher_and_moves_reach_it():
    method = Method()
    twin = copy.deepcopy(method)
    assert twin.teacher is method.teacher and twin.student is not method.student
    method.double()
    assert {t.dtype for t in (*method.teacher.parameters(), *method.teacher.buffers())} == {torch.float64}


def test_moving_average_leaves_it_out(images):
    method = Method()
    average = WeightAverage(method)
    average.update(method, 0)
    assert list(average.state_dict()) == list(method.state_dict())
    expected = method.teacher(images)
    with average.swapped_into(method):
        assert torch.equal(method.teacher(images), expected)


def test_random_weights_are_seeded_apart(images):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = micro()
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first(images), micro()(images))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"random": False}, "weights=None.*random=True is for tests"),
        ({"weights": "x.pt"}, "exclude each other"),
        ({"source": "hub"}, "source 'hub': choose timm or open_clip"),
        ({"features": "cls"}, "features 'cls': choose tokens or projected"),
        ({"source": "open_clip"}, "options apply only to timm"),
        ({"name": "vit_none"}, "timm has no such model"),
        ({"name": "vit_base_patch16_224"}, "not a CLIP image tower"),
        ({"random": False, "weights": "/nowhere/x.pt"}, "no such file"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        micro(**options)
