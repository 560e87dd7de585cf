"""The table of backbones beside each other: what is built, turns, failures, and going on."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import benchmark
from benchmarks import peers
from benchmarks.models import BackboneSetting, Size

SETTING = BackboneSetting("fast_itpn_nano", rounds=2, device="cpu", dtype="fp32")
SMALL = Size(64, 128)
CALL = ["peers", "--variant", "fast_itpn_nano", "--device", "cpu", "--sizes", "64x128", "--rounds", "2"]


class Noted(nn.Module):
    """A network of one weight that notes each of its calls."""

    def __init__(self, name, calls):
        super().__init__()
        self.weight, self.name, self.calls = nn.Parameter(torch.ones(3, 1, 1)), name, calls

    def forward(self, image):
        self.calls.append((self.name, self.weight.grad is None, torch.is_grad_enabled()))
        return (image * self.weight,)


@pytest.fixture
def calls(monkeypatch):
    """Of three networks, the second of which can't be built."""
    seen = []

    def broken(size, setting):
        raise ValueError(f"{size} | no")

    networks = {name: lambda *_, name=name: Noted(name, seen) for name in "ac"}
    monkeypatch.setattr(peers, "NETWORKS", {"a": networks["a"], "b": broken, "c": networks["c"]})
    return seen


@pytest.mark.parametrize("name", list(peers.NETWORKS))
def test_every_network_has_the_levels_of_a_detector(name):
    with torch.device("meta"), torch.no_grad():
        maps = peers.NETWORKS[name](SMALL, SETTING).eval()(torch.zeros(1, 3, *SMALL))
    strides = (16,) if name == "SAM ViT-B" else (4, 8, 16, 32, 64)
    assert sorted(tuple(m.shape[-2:]) for m in maps) == sorted((64 // s, 128 // s) for s in strides)
    assert {m.shape[1] for m in maps} == {peers.CHANNELS}


@pytest.mark.parametrize("training", [False, True])
def test_networks_take_turns_and_a_broken_one_has_its_reason(calls, training):
    found = peers.measure(("a", "b", "c"), SMALL, training, SETTING)
    assert [name for name, *_ in calls] == ["a", "c", "c", "a", "a", "c"]
    assert all(fresh and grad is training for _, fresh, grad in calls)
    assert found["b"] == {"reason": "ValueError: 64x128 / no"}
    assert [len(found[name]["seconds"]) for name in "ac"] == [2, 2]
    assert found["a"]["peak"] >= 0


def test_a_call_goes_on_where_the_last_one_stopped(monkeypatch, tmp_path, calls):
    measured = []

    def fake(function, names, size, training, setting):
        measured.append((str(size), training, setting.dtype))
        return {name: {"seconds": [1.0, 3.0], "peak": 7.0} for name in names}

    monkeypatch.setattr(peers, "own_process", fake)
    monkeypatch.setattr(peers, "_parameters", lambda name, setting: 5.0)
    docs = tmp_path / "docs"
    (docs / "measured").mkdir(parents=True)
    (docs / "benchmarks.md").write_text("# Benchmarks\n")
    monkeypatch.setattr("sys.argv", ["tools/benchmark.py", *CALL])
    call = [*CALL, "--networks", "a", "c", "--docs", str(docs)]
    with pytest.raises(SystemExit):  # a, b and c are not those of the command line
        benchmark.main([*CALL, "--networks", "d"])
    benchmark.main([*call, "--modes", "forward"])
    benchmark.main(call)
    assert measured == [("64x128", False, "fp32"), ("64x128", True, "fp32")]
    page = (docs / "benchmarks.md").read_text()
    assert "| a | 5 | 2.00 (1.00 to 3.00) | 2.00 (1.00 to 3.00) |" in page
    assert "| c | 5 | 7 | 7 |" in page
    kept = json.loads((docs / "measured" / "peers.json").read_text())
    assert list(kept["results"]["fp32"]["64x128"]) == ["forward", "training"]
    benchmark.main([*call, "--batch", "2"])  # another setting: all anew
    assert len(measured) == 4


def test_a_process_that_dies_is_the_reason_of_all_its_networks(monkeypatch, tmp_path):
    def dies(*arguments):
        raise peers.MeasurementError("measure(): the process ended before its result")

    monkeypatch.setattr(peers, "own_process", dies)
    out = tmp_path / "found.json"
    benchmark.main([*CALL, "--modes", "forward", "--networks", "ViT-B", "--json", str(out)])
    found = json.loads(out.read_text())["results"]["fp32"]["64x128"]["forward"]
    assert found["ViT-B"] == {"reason": "MeasurementError: measure(): the process ended before its result"}


def test_gathering_and_migration_are_those_of_the_setting():
    model = peers.NETWORKS["ours, both"](SMALL, replace(SETTING, window=2, tokens=3, keep=0.5))
    trunk = model.network.trunk
    assert (trunk.gathering.window, trunk.gathering.tokens) == (2, 3)
