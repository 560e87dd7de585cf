"""Iterations, epochs and learning rates of runs with one stage and with several."""

import pytest
from fvcore.common.param_scheduler import CosineParamScheduler, LinearParamScheduler

from pretrain.epochs import Clock, ClockedScheduler
from pretrain.schedule import ProgressiveSchedule

STAGES = ProgressiveSchedule(
    [dict(epoch=0, size=64, batch=10), dict(epoch=2, size=96, batch=5), dict(epoch=3, size=128, lr=0.3)]
)


def test_one_stage():
    clock = Clock(num_images=105, epochs=4, size=64, batch=10, lr=1.0)
    assert clock.max_iter == 40 and clock.epoch(0) == 0 and clock.epoch(25) == 2.5 and clock.epoch(40) == 4
    assert clock.segment(39).size == 64
    assert [i for i in range(40) if clock.due(i, 2)] == [19, 39]
    assert [i for i in range(40) if clock.due(i, 0.5)] == list(range(4, 40, 5))
    assert not any(clock.due(i, 0) for i in range(40))
    assert [i for i in range(40) if clock.due(i, 3)] == [29, 39]  # always at the end


def test_progressive_stages():
    clock = Clock(num_images=100, epochs=5, size=224, batch=10, lr=0.1, schedule=STAGES)
    assert [(s.start, s.stop, s.size, s.batch) for s in clock.segments] == [
        (0, 20, 64, 10),
        (20, 40, 96, 5),
        (40, 80, 128, 5),
    ]
    assert [s.lr_scale for s in clock.segments] == [1.0, 0.5, pytest.approx(3.0)]
    assert clock.epoch(20) == 2 and clock.epoch(30) == 2.5 and clock.epoch(80) == 5
    assert [i for i in range(80) if clock.due(i, 1)] == [9, 19, 39, 59, 79]


def test_learning_rate_follows_epochs_not_iterations():
    clock = Clock(num_images=100, epochs=5, size=224, batch=10, lr=0.1, schedule=STAGES)
    schedule = ClockedScheduler(LinearParamScheduler(1.0, 0.0), clock)
    at = [schedule(i / clock.max_iter) for i in range(clock.max_iter)]
    assert (
        at[10] == pytest.approx(0.8)
        and at[30] == pytest.approx(0.5 * 0.5)
        and at[60] == pytest.approx(3 * 0.2)
    )
    plain = Clock(num_images=100, epochs=5, size=224, batch=10, lr=0.1)
    cosine = CosineParamScheduler(1.0, 0.0)
    assert ClockedScheduler(cosine, plain)(0.3) == pytest.approx(cosine(0.3))


def test_fewer_images_than_a_batch_are_an_epoch_of_one_step():
    assert Clock(num_images=3, epochs=7, size=64, batch=10, lr=1.0).max_iter == 7


def test_errors():
    with pytest.raises(ValueError, match=r"train.epochs=0"):
        Clock(10, 0, 64, 4, 1.0)
    with pytest.raises(ValueError, match="starts at epoch 3, but train.epochs is 3"):
        Clock(100, 3, 64, 10, 1.0, STAGES)
