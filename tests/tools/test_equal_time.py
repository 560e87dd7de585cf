"""Detectors at equal processor time: budgets become iterations, and what is done is not done again."""

import json
from pathlib import Path

import pytest

import equal_time
from benchmarks.clock import MeasurementError
from tests.tools.small_run import SMALL

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "Quickstart"
FASTER, MASK = (str(CONFIGS / f"{name}_fast_itpn_nano.py") for name in ("faster_rcnn", "mask_rcnn"))


@pytest.fixture
def calls(monkeypatch):
    """What is run, instead of running it; the first training of an arm in ``broken`` fails."""

    class Calls(list):
        broken = ""

    seen = Calls()

    def instead(function, arm, *rest):
        seen.append((function.__name__, arm.name, *rest[:3:2]))
        if function is equal_time.seconds_per_iteration:
            return 0.5
        if arm.name == seen.broken:
            raise MeasurementError("train(...): no memory")
        curve = {"bbox/AP": [(60, 10.0), (120, 20.0)]}
        return {"scores": {"bbox/AP": 20.0}, "curves": curve, "minutes": 1.5}

    monkeypatch.setattr(equal_time, "own_process", instead)
    return seen


def arguments(folder, *more):
    arms = ["--arm", "Boxes", FASTER, "--arm", "Masks, slow", MASK, "optimizer.lr=1e-4"]
    return ["--output", str(folder / "out"), "--minutes", "1", *arms, *more]


def test_every_arm_from_every_start(tmp_path, calls):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"")
    assert equal_time.main(arguments(tmp_path, "--start", f"pre-trained={weights}")) == 0
    trained = [call[1:] for call in calls if call[0] == "train"]
    assert trained == [
        ("Boxes", 120, None),
        ("Boxes", 120, str(weights)),
        ("Masks, slow", 120, None),
        ("Masks, slow", 120, str(weights)),
    ]
    assert [call[1] for call in calls if call[0] == "seconds_per_iteration"] == ["Boxes", "Masks, slow"]
    text = (tmp_path / "out" / "equal_time.md").read_text()
    assert "| Boxes | pre-trained | 120 | 0.50 | 20.0 |" in text
    assert (tmp_path / "out" / "equal_time.png").stat().st_size > 5000


def test_a_start_may_be_an_address(tmp_path, calls, capsys):
    address = "itpn://fast_itpn_nano"
    assert equal_time.main(arguments(tmp_path, "--only-starts", "--start", f"package={address}")) == 0
    assert [call[3] for call in calls if call[0] == "train"] == [address, address]
    with pytest.raises(SystemExit):
        equal_time.main(arguments(tmp_path, "--start", "package=fast_itpn_nano"))
    assert "where FILE exists" in capsys.readouterr().err


def test_goes_on_after_a_failure(tmp_path, calls, refused):
    calls.broken = "Masks, slow"
    with refused("no memory"):
        equal_time.main(arguments(tmp_path))
    done = len(calls)
    calls.broken = ""
    assert equal_time.main(arguments(tmp_path)) == 0
    assert [call[:2] for call in calls[done:]] == [("train", "Masks, slow")]
    runs = json.loads((tmp_path / "out" / "equal_time.json").read_text())["runs"]
    assert [row["arm"] for row in runs.values()] == ["Boxes", "Masks, slow"]


def test_another_budget_is_another_comparison(tmp_path, calls):
    equal_time.main(arguments(tmp_path))
    done = len(calls)
    equal_time.main(arguments(tmp_path, "--minutes", "2"))
    assert len(calls) == 2 * done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arm", "Boxes"], "a name and an existing config file"),
        (["--arm", "Boxes", "nowhere.py"], "a name and an existing config file"),
        (["--arm", "Boxes", FASTER, "--start", "a=nowhere.pth"], "where FILE exists"),
        (["--arm", "Boxes", FASTER, "--minutes", "0"], "more than 0"),
        (["--arm", "Boxes", FASTER, "--only-starts"], "nothing to do"),
    ],
)
def test_refusals(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit):
        equal_time.parse(["--output", str(tmp_path), *words])
    assert message in capsys.readouterr().err


def test_a_training_and_its_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(equal_time, "_PROBE", (1, 2))
    arm = equal_time.Arm("Boxes", FASTER, (*equal_time._QUIET, *SMALL))
    assert 0 < equal_time.seconds_per_iteration(arm) < 60
    row = equal_time.train(arm, 2, 2, None, str(tmp_path / "run"))
    assert [x for x, _ in row["curves"]["bbox/AP"]] == [1, 2]
    assert row["scores"]["bbox/AP"] == row["curves"]["bbox/AP"][-1][1] and row["minutes"] > 0
