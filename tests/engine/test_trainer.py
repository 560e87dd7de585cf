"""The loop on a small model: accumulation, clipping, averaging, refusal of bad losses, bit-exact resume."""

import itertools
import math
import time

import pytest
import torch
from detectron2.engine import hooks
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.utils import comm
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn

from itpn_d2.checkpoint import Checkpointer
from itpn_d2.engine.finite import drops_by_itself
from itpn_d2.engine.records import images_in
from itpn_d2.engine.trainer import Trainer
from itpn_d2.errors import ConfigError, DivergenceError
from itpn_d2.seed import seed_step
from itpn_d2.solver import WeightAverage
from tests.engine.forked import forked


class Regressor(nn.Module):
    """A dict of losses from a batch of (x, y), with dropout so that the random state matters."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.3), nn.Linear(16, 1))

    def forward(self, batch):
        x = torch.stack([b[0] for b in batch])
        y = torch.stack([b[1] for b in batch])
        error = self.body(x)[:, 0] - y
        return {"square": error.square().mean(), "size": 0.01 * self.body[0].weight.square().sum()}


def batches(size, start=0):
    for i in itertools.count(start):
        generator = torch.Generator().manual_seed(i)
        x = torch.randn(size, 4, generator=generator)
        yield list(zip(x, x.sum(1), strict=True))


def build(tmp_path, max_iter, accumulate=1, dtype=torch.float32, clip=None, dropout=0.3, fused=None, **more):
    torch.manual_seed(3)
    model = Regressor()
    model.body[2].p = dropout
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    trainer = Trainer(model, optimizer, dtype, accumulate, clip, WeightAverage(model, 0.9), seed=5, **more)
    schedule = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), max_iter)
    recorder = Recorder() if trainer.log_period == 1 else hooks.HookBase()
    checkpointer = Checkpointer(model, str(tmp_path), trainer=trainer)
    trainer.register_hooks(
        [hooks.LRScheduler(optimizer, schedule), recorder, hooks.PeriodicCheckpointer(checkpointer, 1)]
    )
    return trainer, recorder, checkpointer


class Recorder(hooks.HookBase):
    def __init__(self):
        self.losses, self.norms, self.rates = [], [], []

    def after_step(self):
        latest = self.trainer.storage.latest()
        self.losses.append(latest["total_loss"][0])
        self.norms.append(latest["grad_norm"][0])
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("stop", [1, 4, 7])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_resume_is_bit_exact(tmp_path, stop, accumulate):
    whole, whole_record, _ = build(tmp_path / "whole", 9, accumulate)
    whole.set_data(batches(6))
    whole.train(0, 9)

    first, first_record, _ = build(tmp_path / "parts", 9, accumulate)
    first.set_data(batches(6))
    first.train(0, stop)
    torch.manual_seed(999)  # a new process starts with another random state
    second, second_record, checkpointer = build(tmp_path / "parts", 9, accumulate)
    checkpointer.resume_or_load("", resume=True)
    start = second.iter + 1
    assert start == stop
    second.set_data(batches(6, start * accumulate))
    second.train(start, 9)

    assert first_record.losses + second_record.losses == whole_record.losses
    assert first_record.rates + second_record.rates == whole_record.rates
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.average.module.parameters(), second.average.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_accumulation_is_one_large_batch(tmp_path):
    one, one_record, _ = build(tmp_path / "a", 5, 1, dropout=0.0)
    halves = batches(4)
    one.set_data(first + second for first, second in zip(halves, halves, strict=True))
    one.train(0, 5)
    two, two_record, _ = build(tmp_path / "b", 5, 2, dropout=0.0)
    two.set_data(batches(4))
    two.train(0, 5)
    assert two_record.losses == pytest.approx(one_record.losses, rel=1e-5)


def test_clipping_bounds_the_step(tmp_path):
    trainer, record, _ = build(tmp_path, 1, clip=1e-3)
    trainer.set_data(batches(4))
    trainer.train(0, 1)
    total = torch.stack([p.grad.norm() for p in trainer.model.parameters()]).norm()
    assert record.norms[0] > 1e-3  # what was measured is the norm before clipping
    assert total == pytest.approx(1e-3, rel=1e-3)


def test_bf16_trains(tmp_path):
    trainer, record, _ = build(tmp_path, 30, dtype=torch.bfloat16)
    trainer.set_data(batches(16))
    trainer.train(0, 30)
    assert record.losses[-1] < record.losses[0]


def test_non_finite_loss_stops_with_advice(tmp_path):
    trainer, _, _ = build(tmp_path, 3)
    bad = [[(torch.full((4,), float("nan")), torch.tensor(0.0))]]
    trainer.set_data(itertools.chain(itertools.islice(batches(2), 1), bad))
    with pytest.raises(FloatingPointError, match=r"iteration 1.*optimizer.lr"):
        trainer.train(0, 3)
    assert (tmp_path / "model_0000000.pth").is_file()  # finished work is kept
    assert all(p.isfinite().all() for p in trainer.model.parameters())


def test_divergence_within_a_model_has_the_same_advice(tmp_path):
    """Detectron2's proposals look at their boxes before there is a loss."""

    def diverge(*_):
        raise FloatingPointError("Predicted boxes contain NaN.")

    trainer, _, _ = build(tmp_path, 3)
    trainer.model.register_forward_hook(diverge)
    trainer.set_data(batches(2))
    with pytest.raises(DivergenceError, match=r"iteration 0: Predicted boxes .* Lower optimizer.lr"):
        trainer.train(0, 3)


def test_losses_are_those_of_a_plain_loop(tmp_path):
    """Bit for bit, and whenever they are written."""
    torch.manual_seed(3)
    model = Regressor()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), 7)
    expected = []
    for step, batch in enumerate(itertools.islice(batches(6), 7)):
        seed_step(5, step, 0)
        optimizer.zero_grad()
        losses = model(batch)
        sum(losses.values()).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
        values = [loss.item() for loss in losses.values()]
        expected.append((sum(values), *values, norm.item()))

    for period in (1, 3, 20):
        trainer, _, _ = build(tmp_path / str(period), 7, clip=0.5, log_period=period)
        trainer.set_data(batches(6))
        trainer.train(0, 7)
        columns = [trainer.storage.history(n).values() for n in ("total_loss", "square", "size", "grad_norm")]
        assert all([i for _, i in column] == list(range(7)) for column in columns)
        assert [tuple(value for value, _ in row) for row in zip(*columns, strict=True)] == expected
        for one, other in zip(model.parameters(), trainer.model.parameters(), strict=True):
            assert torch.equal(one, other)


def poisoned(bad, size=4):
    """Batches of which those at the places ``bad`` make the loss NaN."""
    for number, batch in enumerate(batches(size)):
        yield [(torch.full((4,), float("nan")), y) for _, y in batch] if number in bad else batch


@pytest.mark.parametrize("late", [False, True])
def test_the_first_bad_loss_stops(tmp_path, late):
    """Also where it is seen one step later, by when the step has been left out on the device."""
    trainer, _, _ = build(tmp_path, 5, log_period=2, fused=late)
    assert drops_by_itself(trainer.optimizer) is late and not trainer.late  # on a CPU nothing waits
    trainer.late = late
    trainer.set_data(poisoned({2}))
    with pytest.raises(
        FloatingPointError, match=r"nan at iteration 2: .*gradient norm nan. Lower optimizer.lr"
    ):
        trainer.train(0, 5)
    assert trainer.iter == (3 if late else 2)
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    content = torch.load(tmp_path / f"model_000000{trainer.iter - 1}.pth", weights_only=True)
    assert all(value.isfinite().all() for value in content["model"].values())
    assert [i for _, i in trainer.storage.history("total_loss").values()] == [0, 1]


@pytest.mark.parametrize("late", [False, True])
def test_the_last_step_is_judged_too(tmp_path, late):
    trainer, _, _ = build(tmp_path, 3, fused=late)
    trainer.late = late
    trainer.set_data(poisoned({2}))
    with pytest.raises(FloatingPointError, match="at iteration 2"):
        trainer.train(0, 3)


@pytest.mark.parametrize("late", [False, True])
def test_bad_steps_are_skipped_and_counted(tmp_path, late, caplog):
    trainer, _, _ = build(tmp_path / "skip", 6, log_period=3, nan="skip", fused=late, dropout=0.0)
    trainer.late = late
    trainer.set_data(poisoned({1, 2, 4}))
    trainer.train(0, 6)
    assert trainer.storage.latest()["skipped_steps"][0] == 3
    assert [i for _, i in trainer.storage.history("total_loss").values()] == [0, 3, 5]
    assert caplog.text.count("optimizer step skipped") == 3
    torch.manual_seed(3)
    model = Regressor()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=late)
    schedule = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), 6)
    for number, batch in enumerate(itertools.islice(batches(4), 6)):
        if number not in (1, 2, 4):
            optimizer.zero_grad()
            model.body[2].p = 0.0
            sum(model(batch).values()).backward()
            optimizer.step()
        schedule.step()
    for one, other in zip(model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(one, other)  # moments and step counts of the optimizer do not know of them either


def test_too_many_bad_steps_in_a_row_stop(tmp_path):
    trainer, _, _ = build(tmp_path, 40, nan="skip")
    trainer.set_data(poisoned({*range(2, 11), *range(12, 22)}))
    with pytest.raises(
        FloatingPointError, match="has skipped 10 steps in a row: loss is nan at iteration 21"
    ):
        trainer.train(0, 40)
    assert trainer.check.skipped == 19


def slowly(found):
    for batch in found:
        time.sleep(0.05)
        yield batch


def test_a_bad_loss_of_one_process_is_skipped_by_all(tmp_path):
    def main():
        torch.manual_seed(0)
        model = Regressor()
        wrapped = nn.parallel.DistributedDataParallel(model)
        trainer = Trainer(wrapped, torch.optim.AdamW(model.parameters(), 0.1), nan="skip", log_period=2)
        trainer.set_data(slowly(poisoned({1})) if comm.get_rank() else batches(4))
        trainer.train(0, 4)
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        return trainer.check.skipped, weights.tolist(), trainer.storage.latest()

    (skipped, one, latest), (skipped_by_other, other, _) = forked(2, main, tmp_path)
    assert skipped == skipped_by_other == 1 and one == other and all(map(math.isfinite, one))
    assert latest["total_loss"][1] == 3 and latest["data_time_rank"][0] == 1
    assert 0 < latest["images_per_s"][0] < 2 * 4 * 2 / 0.1  # two processes, four images, two steps in 0.1 s


@pytest.mark.parametrize("late", [False, True])
def test_float16_is_scaled(tmp_path, late):
    """The scale is in the metrics, and goes down where gradients overflow; the step is left out."""
    trainer, _, _ = build(tmp_path, 4, dtype=torch.float16, fused=late, log_period=2)
    trainer.late = late
    trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": 2.0**126})
    trainer.set_data(batches(4))
    before = [p.clone() for p in trainer.model.parameters()]
    trainer.train(0, 1)
    assert all(map(torch.equal, before, trainer.model.parameters()))
    trainer.scaler.load_state_dict({**trainer.scaler.state_dict(), "scale": 256.0})
    trainer.set_data(batches(4))
    trainer.train(1, 4)
    assert trainer.storage.latest()["amp_scale"][0] == 256
    assert 0.05 < trainer.storage.latest()["memory_gib"][0] < 1000
    assert not any(map(torch.equal, before, trainer.model.parameters()))
    assert "skipped_steps" not in trainer.storage.latest()


@pytest.mark.parametrize(
    ("batch", "images"),
    [([{}, {}, {}], 3), (torch.zeros(2, 3, 4, 4), 2), ({"epoch": 1, "image": torch.zeros(5, 3)}, 5), ({}, 0)],
)
def test_images_of_a_batch(batch, images):
    assert images_in(batch) == images


def test_refuses_accumulate_zero():
    with pytest.raises(ValueError, match="accumulate"):
        Trainer(nn.Linear(1, 1), torch.optim.SGD(nn.Linear(1, 1).parameters(), 1.0), accumulate=0)


def test_what_failed_first_is_what_is_said(tmp_path):
    """The hooks end all the same, and what fails then does not hide the error."""

    class Failing(hooks.HookBase):
        def after_step(self):
            raise ConfigError("the first")

        def after_train(self):
            raise ZeroDivisionError("a consequence")

    class Last(hooks.HookBase):
        ended = False

        def after_train(self):
            self.ended = True

    trainer, _, _ = build(tmp_path, 3)
    last = Last()
    trainer.register_hooks([Failing(), last])
    trainer.set_data(batches(4))
    with pytest.raises(ConfigError, match="the first"):
        trainer.train(0, 3)
    assert last.ended
