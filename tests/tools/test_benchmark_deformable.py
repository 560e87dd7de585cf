"""The benchmark of deformable attention: both sides compute the same, the table says what was measured."""

import json

import pytest
import torch

import benchmark
from benchmarks import deformable as benchmark_deformable
from benchmarks.deformable import OPERATORS, Setting, dino_peak, level_shapes, measures, operator_step
from itpn_d2.layers import sample_levels

SMALL = Setting(height=48, width=64, rounds=1, device="cpu")


def test_levels_are_those_of_the_pyramid():
    assert level_shapes(800, 1333, 4) == [(100, 168), (50, 84), (25, 42), (12, 21)]
    assert level_shapes(800, 1333, 5)[0] == (200, 336)


def test_the_stacked_form_is_the_same_operator():
    torch.manual_seed(0)
    shapes = [(3, 4), (2, 2)]
    value, locations = torch.randn(2, 16, 3, 5), torch.rand(2, 7, 3, 2, 4, 2) * 1.4 - 0.2
    weights = torch.rand(2, 7, 3, 2, 4)
    torch.testing.assert_close(
        OPERATORS["stacked"](value, shapes, locations, weights),
        sample_levels(value, shapes, locations, weights),
    )


def test_a_step_goes_back_to_all_inputs(monkeypatch):
    seen = []

    def noting(*given):
        seen.append(given)
        return sample_levels(*given)

    monkeypatch.setitem(OPERATORS, "levels", noting)
    operator_step("levels", 4, SMALL)(0)
    value, shapes, locations, weights = seen[0]
    assert value.shape[1] == locations.shape[1] == sum(h * w for h, w in shapes)
    assert all(x.grad is not None and x.grad.any() for x in (value, locations, weights))


def test_command_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_deformable, "own_process", lambda function, *given: function(*given))
    monkeypatch.setattr(benchmark_deformable, "peak_mib", lambda step, steps, device: 2.0 * steps)
    out = tmp_path / "out.json"
    options = "--height 48 --width 64 --rounds 2 --cases 4 5 --device cpu"
    benchmark.main(["deformable", *options.split(), "--json", str(out)])
    results = json.loads(out.read_text())["results"]
    assert results.keys() == {"speed/4", "memory/4", "speed/5", "memory/5"}
    assert len(results["speed/4"]["seconds"][0]) == 2 and results["memory/4"]["value"] == 1.0
    text = capsys.readouterr().out
    assert measures("cpu")["speed/4"].row(results["speed/4"]) in text
    assert ">= 1.50" in text and "48x64 pixels" in text


def test_targets_of_the_gpu():
    found = measures("cuda")
    assert (found["speed/4"].sign, found["speed/4"].limit) == (">=", 4.0)
    assert (found["memory/5"].sign, found["memory/5"].limit) == ("<=", 0.4)


@pytest.mark.slow
def test_a_step_of_dino(monkeypatch):
    monkeypatch.setattr(benchmark_deformable, "peak_mib", lambda step, steps, device: step(0) or 1.0)
    assert dino_peak(True, SMALL) == 1.0
