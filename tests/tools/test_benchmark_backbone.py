"""The backbone benchmark: that its sides differ as they say, its results and tables, its command line."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch.nn import functional as F

import benchmark
from benchmarks import backbone as benchmark_backbone
from benchmarks import docs as benchmark_docs
from benchmarks.backbone import (
    DENSE,
    EXPLICIT,
    PEER_SIDES,
    SIDES,
    TRUNK,
    Pair,
    Side,
    Table,
    attempt,
    exponent,
    measure_growth,
    measure_pair,
    with_memory,
)
from benchmarks.clock import MeasurementError
from benchmarks.docs import body, draw, matrix, measured_file, place_name, throughput
from benchmarks.models import (
    ACCELERATED,
    PEERS,
    BackboneSetting,
    Features,
    Size,
    build,
    count_macs,
    explicit_attention,
    inputs,
    step_for,
)
from benchmarks.plot import throughput_plot
from benchmarks.table import single
from benchmarks.targets import PLACES, TARGETS, Target, applies, target_rows

S32, S64, S128, WIDE = Size(32, 32), Size(64, 64), Size(128, 128), Size(64, 100)
TINY = BackboneSetting(
    "fast_itpn_nano",
    1,
    rounds=1,
    device="cpu",
    dtype="fp32",
    backend="eager",
    sizes=(S64, S128),
    growth=(S64, S128),
    window=4,
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
    image = inputs(S128, TINY)[0]
    outputs = {}
    for way in ("dense", "gathering", "migration", "both"):
        model = build(Side(way), S128, TINY).eval()
        trunk = model.network.trunk
        assert (trunk.gathering is not None) == (way in ("gathering", "both"))
        assert (trunk.migration is not None) == (way in ("migration", "both"))
        outputs[way] = model(image)[2]
    values = list(outputs.values())
    assert len(values[0].shape) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(values) for b in values[:i])
    maps = build(TRUNK, S128, TINY).eval()(image)
    assert [m.shape[1] for m in maps] == [32, 16, 8]  # channel-last strides 4, 8, 16: no pyramid


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("side", [DENSE, Side("both"), EXPLICIT], ids=str)
def test_steps_train_or_do_not(monkeypatch, side, training):
    made = []

    def noting(*arguments):
        made.append(build(*arguments))
        return made[-1]

    monkeypatch.setattr("benchmarks.models.build", noting)
    fused = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or original(*a, **k)
    )
    step = step_for(side, S64, training, TINY)
    step(0)
    step(5)
    model = made[0]
    assert model.training == training
    assert bool(fused) != side.explicit
    assert all((p.grad is not None) == training for p in model.parameters())


def test_half_precision_without_gradients_has_half_precision_weights(monkeypatch):
    made = []
    monkeypatch.setattr("benchmarks.models.build", lambda *a: made.append(build(*a)) or made[-1])
    step_for(Side("both"), S64, False, replace(TINY, dtype="bf16"))(0)
    assert {p.dtype for p in made[0].parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("size", [Size(224, 224), Size(200, 330)], ids=str)
@pytest.mark.parametrize("name", PEERS.values())
def test_peers_are_what_timm_has(name, size):
    with torch.device("meta"):
        model = Features(name, size)
        found = model(torch.zeros(1, 3, *size.padded))
    assert len(found) == 1 and found[0].ndim >= 3


def test_sizes():
    assert Size.parse("224") == (224, 224) and str(Size.parse("224")) == "224"
    wide = Size.parse("800x1333")
    assert str(wide) == "800x1333" and wide.padded == (800, 1344)
    for wrong in ("1x2x3", "0", "small"):
        with pytest.raises(ValueError):
            Size.parse(wrong)
    assert inputs(WIDE, TINY)[0].shape == (1, 3, 64, 128)


def test_macs_count_attention():
    """Of one block, the two products are 2 N^2 C; all else does not change with the number of windows."""
    counts = {size: count_macs(DENSE, size, TINY) for size in (S64, S128)}
    tokens, depth, width = {S64: 16, S128: 64}, 6, 192
    attention = {size: depth * 2 * n * n * width for size, n in tokens.items()}
    rest = {size: counts[size] - attention[size] for size in counts}
    assert rest[S128] == pytest.approx(4 * rest[S64], rel=1e-3)
    ways = {way: count_macs(Side(way), Size(256, 256), TINY) for way in ("dense", *ACCELERATED)}
    assert ways["both"] < min(ways["gathering"], ways["migration"])
    assert max(ways["gathering"], ways["migration"]) < ways["dense"]


def test_exponent():
    sizes = [Size(side, side) for side in (64, 128, 256)]
    assert exponent(dict(zip(sizes, (3.0, 12.0, 48.0), strict=True))) == pytest.approx(1)
    assert exponent({sizes[0]: 1.0, sizes[1]: 16.0}) == pytest.approx(2)


def test_a_pair_is_a_ratio_of_seconds():
    pair = Pair("acceleration", "both", DENSE, Side("both"), WIDE, "forward")
    found = measure_pair(pair, TINY)
    over, under = found["seconds"]
    assert found["value"] == pytest.approx(over[0] / under[0])
    assert pair.key == "acceleration/both/forward/64x100"


@pytest.fixture
def faked(monkeypatch):
    """Instead of measuring: note what was asked for, and say something that depends on it."""
    ran = []
    speeds = {"dense": 1.0, "gathering": 1.5, "migration": 2.0, "both": 3.0}

    def fake(within, function, *arguments):
        assert within is with_memory
        setting = arguments[-1]
        ran.append((setting.dtype, function.__name__, *arguments[:-1]))
        if function is measure_pair:
            pair = arguments[0]
            if pair.name == "Hiera-B":
                raise MeasurementError("measure_pair(Pair(x)): AssertionError: no | such\nsize")
            # one that ran when the machine was slow
            over = (10.0 if pair.name == "both" else 1.0) * pair.size.height / 64
            ratio = speeds.get(pair.under.model, 1.0) * (2.0 if pair.over == EXPLICIT else 1.0)
            return {**single(ratio), "seconds": ([over], [over / ratio])}
        if function.__name__ == "measure_growth":
            return {"value": 1.2, "low": 1.0, "high": 1.3, "macs": 1.05, "seconds": []}
        if function.__name__ == "measure_peak":
            return single(300.0 if arguments[0] == EXPLICIT else 100.0)
        return function(*arguments)

    monkeypatch.setattr(benchmark_backbone, "own_process", fake)
    monkeypatch.setattr(benchmark_backbone, "count_macs", lambda side, size, setting: size.pixels * 10**6)
    return ran


def options(tmp_path, *more):
    text = "backbone --variant fast_itpn_nano --sizes 64 64x100 --growth-sizes 64 128 --rounds 1 --device cpu"
    return [*text.split(), "--window", "3", *more]


def test_throughput_trusts_the_ratios_of_pairs(faked):
    """A machine that was slower while one pair ran changes nothing between the ways."""
    table = Table(TINY)
    for case in ("attention", "acceleration", "compile", "peers"):
        table.add_pairs(case, "fp32", ["forward", "training"])
    table.add_memory("fp32", ["forward"], {**SIDES, **PEER_SIDES})
    results = table.results["fp32"]
    assert len(faked) == len(results) == 2 * (2 * (1 + 3 + 4 + 6) + 6 + 6)
    speeds = throughput(results, DENSE)
    assert speeds["dense"] == {S64: 1.0, S128: 0.5}
    assert speeds["both"] == {S64: 3.0, S128: 1.5} and speeds["gathering"] == {S64: 1.5, S128: 0.75}
    assert speeds["explicit"] == {S64: 0.5, S128: 0.25} and "dense compiled" in speeds
    peers = throughput(results, TRUNK)
    assert peers.keys() == {"trunk", *PEERS} - {"Hiera-B"} and peers["Swin-B"] == {S64: 1.0, S128: 0.5}


def test_growth_is_the_exponent_of_each_round(here, monkeypatch):
    seconds = iter([1.0, 4.0, 1.0, 16.0, 2.0, 8.0])
    monkeypatch.setattr(benchmark_backbone, "timed", lambda call, device: call() or next(seconds))
    found = measure_growth("gathering", replace(TINY, rounds=3))
    assert (found["low"], found["value"], found["high"]) == pytest.approx((1, 1, 2))
    assert found["seconds"][1] == {"64": 1.0, "128": 16.0} and 0.9 < found["macs"] < 1.2


def test_a_failure_is_a_reason(monkeypatch):
    def failing(function, *arguments):
        raise MeasurementError("measure_pair(Pair(x)): AssertionError: no such size")

    monkeypatch.setattr(benchmark_backbone, "own_process", failing)
    assert attempt(measure_pair) == {"reason": "AssertionError: no such size"}


def test_tables_have_a_column_a_size(faked):
    table = Table(replace(TINY, sizes=(S128, WIDE)))
    table.add_pairs("peers", "fp32", ["forward"])
    table.add_memory("fp32", ["training"])
    table.add_macs("fp32")
    table.add_growth("fp32")
    lines = matrix(table.results["fp32"], "forward")
    assert lines[:2] == ["| forward | 64x100 | 128 |", "|---|---|---|"]
    reason = "not measured: AssertionError: no / such size"
    assert f"| seconds, Hiera-B / trunk | {reason} | {reason} |" in lines
    assert "| peak MiB, explicit | 300 | 300 |" in matrix(table.results["fp32"], "training")
    text = body(table.content())
    assert "| GMACs per image, dense | 6.4 | 16.4 |" in text
    assert "| gathering | 1.20 (1.00 to 1.30) | 1.05 |" in text


def test_checkpointing_is_timed_and_weighed(faked):
    table = Table(replace(TINY, sizes=(S64,)))
    table.add_pairs("checkpointing", "fp32", ["forward", "training"])
    specs = benchmark_backbone.CHECKPOINTING
    assert len(faked) == 2 * len(specs) + 1  # memory without any, once
    lines = matrix(table.results["fp32"], "training")
    assert matrix(table.results["fp32"], "forward") == []
    assert "| peak MiB, checkpointing none | 100 |" in lines
    for spec in specs:
        assert f"| seconds, checkpointing {spec} / none | 1.00 |" in lines
        assert f"| peak MiB, checkpointing {spec} | 100 |" in lines
        network = build(Side(checkpointing=spec), S64, TINY).network
        assert any(getattr(m, "recompute", False) for m in network.modules())


def test_targets_are_met_missed_or_not_measured():
    results = {
        "attention/explicit/forward/1024": single(1.6),
        "memory/dense/forward/1024": single(60.0),
        "memory/explicit/forward/1024": single(100.0),
        "acceleration/gathering/forward/1024": {"reason": "memory"},
        "compile/dense/training/512": single(1.2),
        "growth/gathering": single(1.05),
    }
    rows = target_rows({"cpu": {"results": {"fp32": results, "bf16": {}}}})
    cells = [[cell.strip() for cell in row.split("|")[2:-1]] for row in rows[2:]]
    measured = "fp32: 1.60, met; bf16: not measured"
    assert cells[0] == [">= 1.5", measured, ">= 3", "not measured"]
    assert cells[1][:2] == ["<= 0.5", "fp32: 0.60, missed; bf16: not measured"]
    assert cells[2][1] == "fp32: not measured; bf16: not measured"
    assert cells[5][:3] == ["", "fp32: 1.20; bf16: not measured", ">= 1.3"]
    assert cells[6][1] == "fp32: 1.05, met; bf16: not measured"
    more = target_rows({"cpu_amx": {"results": {"fp32": results}}, "cpu_kept": {"results": {}}})
    assert more[0].split(" | ")[2:4] == ["CPU, freed memory kept", "CPU with AMX"]
    assert more[2].split("|")[3:5] == [" not measured ", " fp32: 1.60, met "]
    # on a GPU the targets are for bfloat16
    gpu = target_rows({"cuda": {"results": {"fp32": results, "bf16": results}}})
    assert gpu[2].endswith("| >= 3 | bf16: 1.60, missed |") and "| not measured |" in gpu[2]


@pytest.mark.parametrize(
    ("amx", "kept", "name"),
    [(False, True, "cpu_kept"), (True, False, "cpu_amx"), (True, True, "cpu_amx_kept")],
)
def test_a_cpu_with_amx_is_a_place_of_its_own(monkeypatch, amx, kept, name):
    monkeypatch.setattr(benchmark_docs, "cpu_has", lambda feature: amx and feature == "amx_tile")
    assert place_name(replace(TINY, kept_memory=kept)) == name and name in PLACES


def test_targets_name_what_is_measured(faked):
    """Each key is one that the full benchmark writes."""
    setting = BackboneSetting()
    assert applies(setting) and not applies(replace(setting, window=14)) and not applies(TINY)
    table = Table(replace(setting, device="cpu"))
    for case in ("attention", "acceleration", "compile"):
        table.add_pairs(case, "fp32", ["forward", "training"])
    table.add_memory("fp32", ["forward"])
    table.add_growth("fp32")
    assert [target.text for target in TARGETS if target.value(table.results["fp32"]) is None] == []
    assert Target("", ("a", "b"), "<=", 1, 1).value({"a": single(1.0), "b": single(4.0)}) == 0.25


def test_command_line(faked, tmp_path, capsys):
    out, table, plot = (tmp_path / f"out.{kind}" for kind in ("json", "md", "png"))
    files = ["--json", str(out), "--markdown", str(table), "--plot", str(plot)]
    given = options(tmp_path, "--cases", "acceleration", "macs", "growth", "--modes", "forward", *files)
    benchmark.main(given)
    assert {dtype for dtype, *_ in faked} == {"fp32", "bf16"}
    text = table.read_text()
    assert text.startswith("fast_itpn_nano, batch 1, rounds 1, gathering with 3x3 windows and 4 tokens")
    assert text.count("| seconds, dense / both | 3.00 | 3.00 |") == 2 and "| forward | 64 | 64x100 |" in text
    assert "target" not in text and text in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["setting"]["growth"] == ["64", "128"] and "sizes" not in found["setting"]
    assert found["results"]["bf16"]["growth/both"]["value"] == 1.2
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_what_was_measured_is_not_measured_again(faked, tmp_path, refused):
    out = str(tmp_path / "out.json")
    given = options(tmp_path, "--dtypes", "fp32", "--modes", "forward", "--json", out)
    benchmark.main([*given, "--cases", "acceleration"])
    assert len(faked) == 6
    benchmark.main([*given, "--cases", "acceleration", "peers", "--resume"])
    assert [pair.case for *_, pair in faked[6:]] == ["peers"] * 12
    benchmark.main([*given, "--cases", "peers", "--resume"])  # only what failed
    assert [pair.name for *_, pair in faked[18:]] == ["Hiera-B"] * 2
    with refused("--resume: .* has setting"):
        benchmark.main([*given, "--cases", "peers", "--resume", "--rounds", "2"])


def test_the_documentation_is_one_command(faked, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(benchmark_docs, "cpu_has", lambda feature: False)
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n\nOther things.\n")
    given = options(tmp_path, "--docs", str(tmp_path))
    with refused("something must have been measured"):
        benchmark.main([*given, "--cases"])
    benchmark.main([*given, "--cases", "acceleration", "peers"])
    first = page.read_text()
    assert first.startswith("# Benchmarks\n\nOther things.\n\n<!-- backbone: begin -->")
    assert "![throughput against resolution](images/backbone_cpu.png)" in first
    assert (tmp_path / "images" / "backbone_cpu.png").is_file()
    # the same with freed memory kept stands beside it
    benchmark.main([*given, "--cases", "acceleration", "--kept-memory"])
    assert measured_file(tmp_path, "cpu_kept").is_file()
    assert "### CPU, freed memory kept" in page.read_text()
    measured_file(tmp_path, "cpu_kept").unlink()
    # what another machine measured stands beside it
    path = measured_file(tmp_path, "cuda")
    content = json.loads(measured_file(tmp_path, "cpu").read_text())
    path.write_text(json.dumps({**content, "device": "cuda", "machine": "a GPU", "targets": True}))
    page.write_text(first + "\nAfter.\n")
    before = len(faked)
    benchmark.main([*given, "--cases"])
    second = page.read_text()
    assert len(faked) == before and second.endswith("<!-- backbone: end -->\n\nAfter.\n")
    assert "### GPU" in second and "a GPU, torch" in second and "### CPU" in second
    page.write_text("<!-- backbone: begin -->")
    with refused("once each, or neither"):
        benchmark.main([*given, "--cases"])


def test_a_plot_of_nothing_is_refused(tmp_path):
    with pytest.raises(MeasurementError, match="no forward pass was timed"):
        throughput_plot(tmp_path / "out.png", {"ours": {"dense": {}}}, "")
    with pytest.raises(MeasurementError, match="no forward pass was timed"):
        draw(tmp_path / "out.png", Table(TINY).content())


def test_an_exponent_needs_two_sizes(refused):
    with refused("needs at least two --growth-sizes"):
        benchmark.main(["backbone", "--growth-sizes", "64", "64", "--cases", "growth"])


def test_real_measurements(here, monkeypatch, tmp_path):
    """Everything once, at sizes at which the numbers mean nothing."""
    sides = {"dense": SIDES["dense"], "both": SIDES["both"], "Swin-T": PEER_SIDES["Swin-T"]}
    monkeypatch.setattr(benchmark_backbone, "SIDES", sides)
    out = tmp_path / "out.json"
    monkeypatch.setattr(benchmark_backbone, "CHECKPOINTING", ("all,keep_attention",))
    cases = ["attention", "acceleration", "checkpointing", "growth", "memory", "macs"]
    given = options(tmp_path, "--json", str(out), "--dtypes", "fp32", "--cases", *cases)
    benchmark.main([*given, "--sizes", "32", "--growth-sizes", "32", "64"])
    results = json.loads(out.read_text())["results"]["fp32"]
    assert all("value" in found for found in results.values())
    assert (
        results["macs/Swin-T/any/32"]["value"] > 0 and asdict(DENSE) == results["macs/dense/any/32"]["over"]
    )
