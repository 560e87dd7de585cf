"""The backbone benchmark: that its sides differ as they say, its results and table, its command line."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional as F

import benchmark
import benchmark_backbone
from benchmark_backbone import (
    DENSE,
    Pair,
    Side,
    Table,
    attempt,
    exponent,
    markdown,
    measure_growth,
    measure_pair,
)
from benchmark_clock import MeasurementError
from benchmark_models import (
    ACCELERATED,
    PEERS,
    BackboneSetting,
    Features,
    build,
    count_macs,
    explicit_attention,
    inputs,
    step_for,
)
from benchmark_plot import throughput_plot
from benchmark_table import Measure, single

TINY = BackboneSetting(
    "fast_itpn_nano", 1, rounds=1, device="cpu", dtype="fp32", backend="eager", sizes=(64, 128), window=4
)


@pytest.fixture
def here(monkeypatch):
    """Measurements in this process."""
    monkeypatch.setattr(benchmark_backbone, "own_process", lambda function, *arguments: function(*arguments))


def test_explicit_attention_is_the_same_product():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 7, 4)
    mask = torch.rand(2, 1, 1, 7) < 0.7
    mask[..., 0] = True
    for given in (None, mask):
        fused = F.scaled_dot_product_attention(q, k, v, attn_mask=given)
        with explicit_attention():
            explicit = F.scaled_dot_product_attention(q, k, v, attn_mask=given)
        assert torch.allclose(fused, explicit, atol=1e-6) and not torch.equal(fused, explicit)


def test_sides_differ_as_they_say():
    image = inputs(128, TINY)[0]
    outputs = {}
    for way in ("dense", "gathering", "migration", "both"):
        model = build(Side(way), 128, TINY).eval()
        trunk = model.network.trunk
        assert (trunk.gathering is not None) == (way in ("gathering", "both"))
        assert (trunk.migration is not None) == (way in ("migration", "both"))
        outputs[way] = model(image)[2]
    values = list(outputs.values())
    assert len(values[0].shape) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])
    maps = build(replace(DENSE, trunk=True), 128, TINY).eval()(image)
    assert [m.shape[1] for m in maps] == [32, 16, 8]  # channel-last strides 4, 8, 16: no pyramid


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("side", [DENSE, Side("both"), replace(DENSE, explicit=True)], ids=str)
def test_steps_train_or_do_not(monkeypatch, side, training):
    made = []

    def noting(*arguments):
        made.append(build(*arguments))
        return made[-1]

    monkeypatch.setattr("benchmark_models.build", noting)
    fused = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or original(*a, **k)
    )
    step = step_for(side, 64, training, TINY)
    step(0)
    step(5)
    model = made[0]
    assert model.training == training
    assert bool(fused) != side.explicit
    assert all((p.grad is not None) == training for p in model.parameters())


def test_half_precision_without_gradients_has_half_precision_weights(monkeypatch):
    made = []
    monkeypatch.setattr("benchmark_models.build", lambda *a: made.append(build(*a)) or made[-1])
    step_for(Side("both"), 64, False, replace(TINY, dtype="bf16"))(0)
    assert {p.dtype for p in made[0].parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", PEERS.values())
def test_peers_are_what_timm_has(name):
    with torch.device("meta"):
        model = Features(name, 256)
        found = model(torch.zeros(1, 3, 256, 256))
    assert len(found) == 1 and found[0].ndim >= 3


def test_macs_count_attention():
    """Of one block, the two products are 2 N^2 C; all else does not change with the number of windows."""
    counts = {size: count_macs(DENSE, size, TINY) for size in (64, 128)}
    tokens, depth, width = {64: 16, 128: 64}, 6, 192
    attention = {size: depth * 2 * n * n * width for size, n in tokens.items()}
    rest = {size: counts[size] - attention[size] for size in counts}
    assert rest[128] == pytest.approx(4 * rest[64], rel=1e-3)
    ways = {way: count_macs(Side(way), 256, TINY) for way in ("dense", *ACCELERATED)}
    assert ways["both"] < min(ways["gathering"], ways["migration"])
    assert max(ways["gathering"], ways["migration"]) < ways["dense"]


def test_exponent():
    assert exponent({100: 3.0, 200: 12.0, 400: 48.0}) == pytest.approx(1)
    assert exponent({100: 1.0, 200: 16.0}) == pytest.approx(2)


def test_a_pair_is_a_ratio_of_seconds():
    found = measure_pair(Pair(Measure("m"), DENSE, Side("both"), 64, "forward"), TINY)
    over, under = found["seconds"]
    assert found["value"] == pytest.approx(over[0] / under[0])
    assert found["over"] == asdict(DENSE) and found["size"] == 64


def test_throughput_trusts_the_ratios_of_pairs(monkeypatch):
    """A machine that was slower while one pair ran changes nothing between the ways."""
    table, ran = Table(TINY), []
    ratios = {"gathering": 1.5, "migration": 2.0, "both": 3.0}

    def fake(function, pair, setting):
        ran.append(pair)
        slow = 10.0 if pair.under.model == "both" else 1.0
        dense, ratio = slow * pair.size / 64, ratios[pair.under.model]
        return {**single(ratio), "seconds": ([dense], [dense / ratio]), **asdict(pair)}

    monkeypatch.setattr(benchmark_backbone, "own_process", fake)
    table.add_pairs("acceleration", ["forward", "training"])
    assert len(ran) == len(table.results) == 2 * 2 * 3
    goals = [pair for pair in ran if pair.measure.sign]
    assert [(p.size, p.mode, p.under.model) for p in goals] == [(128, "forward", "both")]
    compiled = Pair(Measure("m"), DENSE, replace(DENSE, compiled=True), 64, "forward")
    table.add("c", Measure("m"), {**single(4), "seconds": ([1.0], [0.25]), **asdict(compiled)})
    speeds = table.throughput()
    assert speeds.pop("dense compiled") == {64: 4.0}
    assert speeds["dense"] == {64: 1.0, 128: 0.5}
    assert all(speeds[way] == {64: r, 128: r / 2} for way, r in ratios.items())


def test_growth_is_the_exponent_of_each_round(here, monkeypatch):
    seconds = iter([1.0, 4.0, 1.0, 16.0, 2.0, 8.0])
    monkeypatch.setattr(benchmark_backbone, "timed", lambda call, device: call() or next(seconds))
    found = measure_growth("gathering", replace(TINY, rounds=3))
    assert (found["low"], found["value"], found["high"]) == pytest.approx((1, 1, 2))
    assert found["seconds"][1] == {64: 1.0, 128: 16.0}


def test_memory_is_measured_once_for_each_side(monkeypatch):
    peaks = {"dense": 100.0, "gathering": 50.0, "migration": 80.0, "both": 40.0}

    def fake(function, side, *rest):
        if side.explicit:
            raise MeasurementError("measure_peak(...): RuntimeError: out | of\nmemory")
        return peaks[side.model]

    monkeypatch.setattr(benchmark_backbone, "own_process", fake)
    table = Table(replace(TINY, sizes=(64,)))
    table.add_memory(["training"])
    assert table.results["memory/dense/training/64"]["value"] == 100
    assert table.results["memory/both/training/64"]["value"] == 0.4
    row = next(line for line in markdown(table).splitlines() if "explicit attention / dense" in line)
    assert row.count("|") == 6 and "not measured: RuntimeError: out / of memory" in row


def test_a_failure_is_a_reason(here, monkeypatch):
    def failing(function, *arguments):
        raise MeasurementError("measure_pair(Pair(x)): AssertionError: no such size")

    monkeypatch.setattr(benchmark_backbone, "own_process", failing)
    assert attempt(measure_pair) == {"reason": "AssertionError: no such size"}


def test_command_line(here, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(benchmark_backbone, "count_macs", lambda side, size, setting: size**3)
    out, table, plot = (tmp_path / f"out.{kind}" for kind in ("json", "md", "png"))
    options = (
        "--variant fast_itpn_nano --sizes 64 96 --batch 1 --rounds 1 --device cpu --dtype fp32 --window 3"
    )
    options += " --cases acceleration macs growth --modes forward"
    files = ["--json", str(out), "--markdown", str(table), "--plot", str(plot)]
    benchmark.main(["backbone", *options.split(), *files])
    lines = table.read_text().splitlines()
    assert lines[0].startswith(
        "Backbone fast_itpn_nano, batch 1, float32, rounds 1, gathering with windows of 3"
    )
    rows = [line.split("|")[1].strip() for line in lines[4:]]
    assert "| exponent of MACs against pixels, both | 1.50 |  |  |  |" in lines
    assert rows[0] == "64, forward: seconds dense / gathering"
    assert (
        "96: MACs dense / both" in rows and "exponent of seconds against pixels, forward, gathering" in rows
    )
    assert all(line.count("|") == 6 for line in lines[2:])
    assert table.read_text() in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["setting"]["sizes"] == [64, 96] and len(found["results"]) == len(rows)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_plot_of_nothing_is_refused(tmp_path):
    with pytest.raises(MeasurementError, match="no forward pass was timed"):
        throughput_plot(tmp_path / "out.png", {"dense": {}}, "")


def test_an_exponent_needs_two_sizes():
    with pytest.raises(SystemExit, match="needs two --sizes"):
        benchmark.main(["backbone", "--sizes", "64", "64", "--cases", "growth"])
