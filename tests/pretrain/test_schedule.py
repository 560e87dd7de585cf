"""Progressive schedule: which stage holds, what is inherited, what is refused."""

import pytest

from pretrain.schedule import ProgressiveSchedule, Stage

STAGES = [
    {"epoch": 0, "size": 96, "batch": 256, "lr": 1e-3},
    {"epoch": 10, "size": 128, "lr": 5e-4},
    {"epoch": 15, "size": 192, "batch": 64},
]


def test_the_last_stage_begun_holds():
    schedule = ProgressiveSchedule(STAGES, divisor=32)
    assert [schedule.at(e).size for e in (0, 9, 10, 14, 15, 99)] == [96, 96, 128, 128, 192, 192]
    assert schedule.at(12) == Stage(10, 128, 256, 5e-4)
    assert schedule.at(20) == Stage(15, 192, 64, 5e-4)
    assert [e for e in range(20) if schedule.starts(e)] == [0, 10, 15]


def test_values_of_the_run_hold_where_none_are_given():
    assert ProgressiveSchedule([{"epoch": 0, "size": 128}]).at(3) == Stage(0, 128, None, None)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "no stages"),
        ([{"epoch": 1, "size": 128}], "starts at epoch 0"),
        ([{"epoch": 0, "size": 128}, {"epoch": 0, "size": 192}], "not after 0"),
        ([{"epoch": 0, "size": 120}], "multiple of 16"),
        ([{"epoch": 0, "size": 128, "batch": 0}], "batch 0"),
        ([{"epoch": 0, "size": 128, "lr": -1.0}], "lr -1.0"),
        ([{"epoch": 0, "side": 128}], r"unknown \['side'\], absent \['size'\]"),
    ],
)
def test_errors(stages, message):
    with pytest.raises(ValueError, match=message):
        ProgressiveSchedule(stages)


def test_negative_epoch():
    with pytest.raises(ValueError, match="epoch -1"):
        ProgressiveSchedule(STAGES).at(-1)
