"""How often a training step waits for the device: once for the matcher's costs."""

from contextlib import nullcontext

import pytest
import torch

from itpn_d2.engine.trainer import Trainer
from itpn_d2.layers import upload
from tests.meta_arch.pretend_device import DEVICE, OnDevice, moved, waits_counted
from tests.meta_arch.small_dino import batch_of, dino, lively, mask_dino, record
from tests.meta_arch.test_mask_dino import TASKS, published_semantic


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch):
    """It does not know the pretended device."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())


def step(model, batch):
    moved(model)
    with waits_counted() as waits:
        losses = model(batch)
        sum(losses.values()).backward()
    return waits


def shown(waits):
    return "\n".join(f"{count} {place}" for place, count in waits.places.most_common())


@pytest.mark.parametrize("empty", [False, True], ids=["objects", "one image without"])
def test_dino(empty):
    batch = [record(), record((48, 64), [] if empty else [[4, 4, 30, 30]], [] if empty else [0], seed=1)]
    waits = step(dino(), batch)
    assert waits.total == 1, shown(waits)


def test_more_objects_than_denoising_places():
    waits = step(dino(denoising=dict(number=1)), [record(), record(seed=1)])
    assert waits.total == 1, shown(waits)


@pytest.mark.parametrize("task", TASKS)
def test_mask_dino(task):
    model = mask_dino(task)
    model.criterion.matcher.points = OnDevice(model.criterion.matcher.points)  # as after the first step
    waits = step(model, batch_of(task))
    assert waits.total == 1, shown(waits)


def test_mask_dino_as_published():
    shared = dict(initial_prediction=True, reference="maskdino", denoising=dict(number=6, contrastive=False))
    for model in (
        mask_dino(box_init="mask2box", shared_encoder_heads=True, **shared),
        published_semantic(**shared),
    ):
        model.criterion.matcher.points = OnDevice(model.criterion.matcher.points)
        waits = step(model, batch_of(model.task))
        assert waits.total == 1, shown(waits)


# per image: which results have a box or a mask; panoptic: scores, then areas
@pytest.mark.parametrize("task, most", [(None, 1), ("instance", 1), ("semantic", 0), ("panoptic", 3)])
def test_evaluation(task, most):
    model = lively(dino() if task is None else mask_dino(task)).eval()
    model.score_threshold = 0.0
    moved(model)
    batch = batch_of("instance")
    with torch.no_grad(), waits_counted() as waits:
        model(batch)
    assert waits.total <= most * len(batch), shown(waits)


def test_the_count_sees_what_waits():
    x = OnDevice(torch.arange(4.0))
    with waits_counted() as waits:
        x[x > 1], x[torch.tensor([0])], x.tolist(), x.sum().item(), x.nonzero(), x.to("cpu")
        torch.tensor([1.0], device=DEVICE), x.new_tensor([1, 2]), torch.zeros(2).to(DEVICE)
        assert bool((x < 9).all())
    assert waits.total == 10, shown(waits)
    with waits_counted() as waits:
        index = torch.tensor([1, 0]).to(DEVICE, non_blocking=True)
        found = x[index] * 2 + torch.full((2,), 3.0, device=DEVICE)
        found[:1] = 0
    assert waits.total == 0 and isinstance(found, OnDevice), shown(waits)
    assert found.tolist() == [0.0, 3.0]


def test_uploads_go_through_pinned_memory(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: calls.append("pin") or self)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: calls.append((a, k)) or self)
    upload(torch.zeros(2), torch.device("cuda"))
    upload(torch.zeros(2), torch.device("cpu"))
    assert calls == [
        "pin",
        ((torch.device("cuda"),), {"non_blocking": True}),
        ((torch.device("cpu"),), {"non_blocking": True}),
    ]


class Dropping(torch.optim.SGD):
    """Leaves bad steps out by itself, as torch's fused optimizers do."""

    _step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self, closure=None):
        bad = getattr(self, "found_inf", None)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    step = p.grad * -group["lr"]
                    p.add_(step if bad is None else torch.where(bad > 0, 0.0, step))


def test_steps_of_the_trainer_wait_for_the_matcher_alone():
    """Losses and norm are read one step later, and go to the log every so often."""
    model = moved(dino())
    trainer = Trainer(model, Dropping(model.parameters(), lr=1e-3), clip_grad_norm=0.1, log_period=4)
    trainer.late = True  # as on a GPU
    batches = iter([[record(), record(seed=1)]] * 4)
    trainer.set_data(batches)
    with waits_counted() as waits:
        trainer.train(0, 4)
    assert waits.total == 4 + 1, shown(waits)  # the first step is judged at once
    assert len(trainer.storage.history("total_loss").values()) == 4


def test_a_whole_step_of_the_trainer():
    """Costs of the matcher; losses and the gradient's norm together."""
    model = moved(dino())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    trainer = Trainer(model, optimizer, clip_grad_norm=0.1)
    trainer.set_data([[record(), record(seed=1)]] * 2)
    with waits_counted() as waits:
        trainer.train(0, 1)
    assert waits.total == 2, shown(waits)
    assert model.class_head.bias.grad is not None
