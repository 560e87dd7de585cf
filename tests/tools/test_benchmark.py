"""The benchmarks' order, ratios and tables, and that what they compare is what they say."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import benchmark
from benchmarks import cases as benchmark_cases
from benchmarks import pretraining as benchmark_pretrain
from benchmarks import training as benchmark_train
from benchmarks.cases import INPUTS, Setting, distillation, fastmim, pixel_mim, step_of
from benchmarks.clock import MeasurementError, compare, own_process, peak_mib, resident_mib
from benchmarks.pretraining import CASES, MEASURES, markdown, measure_compile, measure_hog
from benchmarks.table import Measure, single
from itpn_d2.engine import keep_freed_memory
from itpn_d2.engine.timing import interleave, timed

CPU = torch.device("cpu")
TOOLS = Path(benchmark.__file__).parent
SMALL = Setting("fast_itpn_nano", batch=2, rounds=1, device="cpu", dtype="fp32", backend="eager")


def trained(model):
    """Whether every parameter has a finite gradient, and some of them are not 0."""
    gradients = [p.grad for p in model.parameters()]
    return all(g is not None and g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)


def wait_for(condition, seconds=240):
    """Until it holds."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.1)


def alive(pid):
    """Whether there is such a process that has not ended; one that nobody has waited for does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def models(monkeypatch):
    """The models that steps of pixel MIM were made for."""
    seen = []

    def noting(model, loss, setting):
        seen.append(model)
        return step_of(model, loss, setting)

    monkeypatch.setattr(benchmark_cases, "step_of", noting)
    return seen


def test_interleave_alternates_and_gives_both_the_same_input():
    calls = []
    first, second = interleave(lambda n: calls.append(("a", n)), lambda n: calls.append(("b", n)), 3, CPU)
    warm_up = [("a", 0), ("b", 0)]
    assert calls == [*warm_up, ("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3), ("b", 3)]
    assert len(first) == len(second) == 3
    assert all(t >= 0 for t in first + second)


def test_timed_calls_once():
    calls = []
    assert timed(lambda: calls.append(1), CPU) >= 0
    assert calls == [1]


def test_compare_takes_the_ratio_within_each_round():
    assert compare([1.0, 4.0, 9.0], [2.0, 2.0, 3.0]) == {"value": 2.0, "low": 0.5, "high": 3.0}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the resident set")
def test_peak_memory_is_what_a_step_adds():
    # in a process of its own: here, earlier tests have left pages that an allocation may get
    found = own_process(peak_mib, partial(np.full, 2**24, dtype=np.float64), 1, CPU)
    assert 120 < found < 150
    assert resident_mib("VmHWM") >= resident_mib()


def _peak_after_a_larger_one(kept: bool) -> float:
    if kept:
        keep_freed_memory()
    np.full(2**26, 1.0)  # 512 MiB, and free at once
    return peak_mib(partial(np.full, 2**24, dtype=np.float64), 1, CPU)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux lets a peak start anew")
@pytest.mark.parametrize("kept", [False, True])
def test_what_came_before_neither_counts_nor_hides_the_peak(kept):
    assert 120 < own_process(_peak_after_a_larger_one, kept) < 150


def test_a_process_of_its_own_has_as_many_threads_and_names_what_failed():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 2)
        with pytest.raises(MeasurementError, match=rf"^exec\(.*\): ValueError: {threads + 2} threads$"):
            own_process(exec, "import torch; raise ValueError(f'{torch.get_num_threads()} threads')")
    finally:
        torch.set_num_threads(threads)


def test_a_process_that_dies_is_named():
    with pytest.raises(MeasurementError, match=r"^_exit\(3\): the process ended before its result"):
        own_process(os._exit, 3)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.slow
def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    """However that ends: a benchmark that was killed left a training behind that went on for hours."""
    note = tmp_path / "pid"
    work = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    program = (
        f"from benchmarks.clock import own_process\nif __name__ == '__main__': own_process(exec, {work!r})"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=TOOLS)
    wait_for(lambda: note.is_file() and note.read_text())
    starter.send_signal(signal.SIGKILL)
    starter.wait(30)
    wait_for(lambda: not alive(int(note.read_text())))


def test_dropping_leaves_a_quarter_of_the_tokens(models):
    masked, whole = pixel_mim(SMALL, decoder=False)
    backbone, tokens = models[0].backbone, []
    backbone.trunk.stage3[0].register_forward_hook(lambda module, given, out: tokens.append(out.shape[:2]))
    for step in (masked, whole):
        step(1)
        assert trained(backbone)
        assert all(p.grad is None for p in models[0].decoder.parameters())
    assert tokens == [(2, 49), (2, 196)]


def test_the_decoder_has_all_patches_on_both_sides(models):
    steps = pixel_mim(SMALL, decoder=True)
    method, tokens = models[0], []
    method.decoder.register_forward_hook(lambda module, given, out: tokens.append(given[0].shape[1]))
    for step in steps:
        step(0)
        assert trained(method.backbone) and trained(method.fusion) and trained(method.decoder)
    assert tokens == [196, 196]


@pytest.mark.parametrize("target, size, values", [("hog", 128, 108), ("pixels", 224, 768)])
def test_sides_of_fastmim(target, size, values):
    method, batches, step = fastmim(SMALL, target)
    assert len(batches) == INPUTS and batches[0].shape == (2, 3, size, size)
    assert not torch.equal(batches[0], batches[1])
    assert method.decoder_pred.out_features == values
    step(INPUTS)  # the first input again
    assert trained(method)


def test_fastmim_compares_the_same_backbone(monkeypatch):
    ran = []

    def fake(function, setting, *target):
        ran.append((function.__name__, *target))
        return {"hog": 30.0, "pixels": 120.0}[target[0]] if target else {"fastmim_speed": {}}

    monkeypatch.setattr(benchmark_pretrain, "own_process", fake)
    found = CASES["fastmim"](SMALL)
    assert sorted(ran) == [("fastmim_peak", "hog"), ("fastmim_peak", "pixels"), ("measure_fastmim_speed",)]
    assert found["fastmim_memory"]["value"] == 0.25


def test_hog_is_a_part_of_the_step():
    found = measure_hog(SMALL)["hog_share"]
    assert 0 < found["value"] < 1
    assert [len(seconds) for seconds in found["seconds"]] == [1, 1]


@pytest.mark.slow
def test_distillation_compiles_in_one_piece():
    found = measure_compile(SMALL)
    assert found["graph_breaks"]["value"] == 0
    assert found["compile_difference"]["value"] < 1e-6
    assert len(found["compile_difference"]["differences"]) == INPUTS
    assert found["compile_speed"]["value"] > 0


class Broken(nn.Module):
    """Half a method: what ``print`` does can't be part of a graph."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, batch):
        half = self.weight * batch["image"]
        print(end="")
        return {"loss_features": half.sum()}


def test_graph_breaks_are_counted_and_a_backend_that_cannot_compile_is_a_reason(monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(
        benchmark_pretrain, "distillation", lambda setting: (Broken(), [{"image": torch.ones(3)}])
    )
    found = measure_compile(replace(SMALL, backend=backend))
    assert found["graph_breaks"]["value"] == 1
    assert (
        found["compile_speed"] == found["compile_difference"] == {"reason": "No working C++ compiler found"}
    )
    assert "| not measured: No working C++ compiler found |" in markdown(found, SMALL)


def test_distillation_has_its_masks_and_targets():
    method, batches = distillation(SMALL)
    assert method.teacher is None
    for batch in batches:
        assert batch["target"].shape == (2, 196, benchmark_cases.TEACHER_DIM)
        assert batch["mask"].shape == (2, 196)
        assert all(65 < count <= 75 for count in batch["mask"].sum(1).tolist())


def test_rows_say_whether_the_target_is_met():
    found = {"value": 0.4, "low": 0.3, "high": 0.5}
    assert Measure("m", "<=", 0.4).row(found) == "| m | 0.40 | 0.30 to 0.50 | <= 0.40 | yes |"
    assert Measure("m", "<", 0.4).row(found).endswith("| < 0.40 | no |")
    assert Measure("m", ">=", 3).row(found).endswith("| >= 3.00 | no |")
    assert Measure("m", "=", 0, ".0f").row(single(0)) == "| m | 0 |  | = 0 | yes |"
    assert Measure("m", form=".1%").row(single(0.0213)) == "| m | 2.1% |  |  |  |"
    assert all(m.row(single(1)).count("|") == 6 for m in MEASURES.values())


def test_command_line(monkeypatch, tmp_path, capsys):
    asked = []

    def case(setting):
        asked.append(setting)
        return {"hog_share": single(0.01)}

    monkeypatch.setitem(CASES, "hog", case)
    out, table = tmp_path / "out.json", tmp_path / "out.md"
    options = "--variant fast_itpn_nano --batch 3 --rounds 2 --device cpu --dtype fp32 --cases hog"
    benchmark.main(["pretrain", *options.split(), "--json", str(out), "--markdown", str(table)])
    assert asked == [Setting("fast_itpn_nano", 3, 2, "cpu", "fp32")]
    lines = table.read_text().splitlines()
    assert lines[0].startswith("Pre-training step of fast_itpn_nano, batch 3, float32, rounds 2, on ")
    threads = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    assert f", {threads}, torch {torch.__version__}" in lines[0]
    assert lines[2] == "| measure | value | range | target | met |"
    assert lines[4:] == [MEASURES["hog_share"].row(single(0.01))]
    assert table.read_text() in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["setting"]["batch"] == 3 and found["results"]["hog_share"]["value"] == 0.01


def test_a_failed_measurement_ends_with_one_line(monkeypatch, refused):
    def failing(setting):
        raise MeasurementError("measure_hog: no memory")

    monkeypatch.setitem(CASES, "hog", failing)
    with refused("MeasurementError: measure_hog: no memory"):
        benchmark.main(["pretrain", "--cases", "hog"])


def test_training_step_of_a_detector(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_train, "own_process", lambda function, *arguments: function(*arguments))
    options = "--variants fast_itpn_nano --sizes 64 --batch 1 --steps 1 --rounds 1 --device cpu --dtype fp32"
    benchmark.main(["train", *options.split()])
    assert "| fast_itpn_nano | 64 | float32 |" in capsys.readouterr().out
