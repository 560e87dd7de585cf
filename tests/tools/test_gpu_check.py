"""``make gpu-check``: the whole command at small size on the CPU, and what failures do to it."""

import json

import pytest
import torch

import benchmark
import gpu_check
from benchmarks import backbone, deformable, pretraining, runs, training, values
from gpu_check import PARTS, check, file_of, parse
from itpn_d2.errors import UseError

PAGE = "# Benchmarks\n\nText.\n\n<!-- backbone: begin -->\nold\n<!-- backbone: end -->\n"


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "images").mkdir(parents=True)
    (folder / "benchmarks.md").write_text(PAGE)
    return folder


@pytest.fixture
def in_this_process(monkeypatch):
    """What each measurement has a process of its own for; returns ``call`` of the command."""
    for module in (backbone, deformable, training, runs):
        monkeypatch.setattr(module, "own_process", lambda function, *given: function(*given))
    monkeypatch.setitem(pretraining.CASES, "drop", pretraining.measure_drop)

    def call(arguments, seconds):
        benchmark.main(arguments)
        return ""

    return call


def test_the_twin_measures_all_parts(docs, in_this_process, capsys):
    args = parse(["--twin", "--docs", str(docs)])
    assert check(args, in_this_process) == 0
    page = (docs / "benchmarks.md").read_text()
    for part in PARTS:
        if part.twin and not part.own_section:
            content = json.loads(file_of(part, docs).read_text())
            assert content["machine"] and content["command"].startswith(
                f"python tools/benchmark.py {part.name}"
            )
            assert content["table"].rstrip() in page and content["date"] in page
    assert "not measured" not in page.partition("## On a GPU")[2] and "### Values" in page
    assert "old" not in page and list((docs / "measured").glob("backbone_cpu*.json"))
    rows = json.loads(file_of(PARTS[0], docs).read_text())["rows"]
    assert [row["case"] for row in rows] == ["deformable_fp32", "pretraining", "compiled_fp32"]
    found = json.loads(file_of(PARTS[-1], docs).read_text())["results"]["pixel_nano"]
    assert found["images_per_s"] > 0 and found["tflops"] > 0 and 0 <= found["waiting"] < 1


def fake(met=True, failing=()):
    """A ``call`` that measures nothing."""

    def call(arguments, seconds):
        if arguments[0] in failing:
            return "stopped after 1 s"
        if "--json" in arguments:
            row = dict(what="x", dtype="fp32", difference=0.5, allowed=0.1, met=met)
            found = {"machine": "a GPU", "rows": [row]}
            path = {name: arguments[arguments.index(name) + 1] for name in ("--json", "--markdown")}
            gpu_check.Path(path["--json"]).write_text(json.dumps(found))
            gpu_check.Path(path["--markdown"]).write_text(f"table of {arguments[0]}\n")
        return ""

    return call


def test_a_part_that_fails_is_told_and_costs_nothing_else(docs, capsys):
    args = parse(["--twin", "--docs", str(docs)])
    assert check(args, fake(failing=("train", "backbone"))) == 3
    page = (docs / "benchmarks.md").read_text()
    assert "Training step: not measured: stopped after 1 s" in page and "table of pretrain" in page
    assert "FAILED train: stopped after 1 s" in capsys.readouterr().err
    # what was measured earlier stays, beside what has failed since
    assert check(args, fake(failing=("pretrain",))) == 3
    page = (docs / "benchmarks.md").read_text()
    assert "table of train" in page and "table of pretrain" in page and "Training step: not" not in page


def test_a_backbone_that_was_stopped_is_written_all_the_same(docs):
    seen, failing = [], ["backbone"]

    def call(arguments, seconds):
        seen.append(arguments)
        return fake(failing=failing.pop() if failing and arguments[0] == "backbone" else ())(
            arguments, seconds
        )

    assert check(parse(["--twin", "--docs", str(docs)]), call) == 3
    assert seen[-1] == ["backbone", "--docs", str(docs), "--cases"]
    benchmark.parse(seen[-1])


def test_a_wrong_value_is_the_exit_code(docs, capsys):
    args = parse(["--twin", "--docs", str(docs)])
    assert check(args, fake(met=False)) == 1
    assert "FAILED x, fp32: 0.5, allowed 0.1" in capsys.readouterr().err
    assert check(args, fake(failing=("values",))) == 1
    assert check(parse(["--twin", "--docs", str(docs), "--parts", "train"]), fake(met=False)) == 0


def test_refusals(docs, monkeypatch):
    with pytest.raises(UseError, match="give a copy"):
        check(parse(["--twin", "--docs", str(gpu_check.DOCS)]), fake())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UseError, match="--twin"):
        check(parse(["--docs", str(docs)]), fake())


def test_on_a_gpu_the_parts_are_those_of_the_table(docs, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def call(arguments, seconds):
        seen.append((arguments, seconds))
        return fake()(arguments, seconds)

    assert check(parse(["--docs", str(docs)]), call) == 0
    assert len(seen) == len(PARTS) and sum(seconds for _, seconds in seen) + gpu_check._WRITING_SECONDS < 480
    for arguments, _ in seen:
        assert arguments[arguments.index("--device") + 1] == "cuda"
        benchmark.parse(arguments)  # options that there are


def test_a_call_has_a_limit_and_tells_why_it_failed(monkeypatch, tmp_path):
    tool = tmp_path / "benchmark.py"
    lines = (
        "import sys, time",
        "if sys.argv[1] == 'slow': time.sleep(60)",
        "sys.exit('no such ' + sys.argv[1])",
    )
    tool.write_text("\n".join(lines))
    monkeypatch.setattr(gpu_check, "TOOLS", tmp_path)
    assert gpu_check.call(["slow"], 1) == "stopped after 1 s"
    assert gpu_check.call(["mode"], 60) == "exit code 1: no such mode"


def test_differences():
    found = {"a": torch.tensor([1.0, 2.5]), "b": torch.tensor([0.0])}
    assert values.difference(found, {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.0])}) == 0.25
    with pytest.raises(ValueError, match="different names"):
        values.difference(found, {"a": found["a"]})


def test_a_comparison_that_breaks_is_not_met(monkeypatch, capsys):
    def broken(kind, device, size):
        raise RuntimeError("no | kernel")

    check_of = values.CHECKS["deformable_fp32"]
    monkeypatch.setitem(values.CHECKS, "deformable_fp32", (check_of[0], broken, *check_of[2:]))
    monkeypatch.setitem(values.CHECKS, "compiled_fp32", ("x", lambda *given: 0.5, "fp32", 0.1))
    text, found = values.run(
        argparse_of("values --size 64 --cases deformable_fp32 compiled_fp32 --device cpu")
    )
    assert [row["met"] for row in found["rows"]] == [False, False]
    assert "RuntimeError: no / kernel" in text and "| no |" in text


def test_values_beside_the_cpu_are_found_wrong(monkeypatch):
    """A device that computes another loss."""
    steps = []
    real = values.trained_values

    def step(model, batch, device, dtype):
        steps.append(device)
        if len(steps) == 1:
            batch = {**batch, "image": batch["image"] + 1}
        return real(model, batch, device, dtype)

    monkeypatch.setattr(values, "trained_values", step)
    assert values.on_both(values._pretraining, "fp32", torch.device("cpu"), 64) > 1e-3


def argparse_of(line):
    return benchmark.parse(line.split())


def test_figures_of_a_run():
    rows = [{"data_time": 9.0, "images_per_s": 1.0}] * 2
    rows += [{"data_time": 0.5, "images_per_s": 8.0, "tflops": 2.0, "memory_gib": 1.5}] * 2
    found = runs.figures(rows, 8)
    assert found == {
        "batch": 8,
        "images_per_s": 8.0,
        "waiting": 0.5,
        "rows": 2,
        "tflops": 2.0,
        "mfu": None,
        "memory_gib": 1.5,
    }
    args = argparse_of("runs --device cpu")
    assert "| 8 | 8.0 | 50% | 2.00 |  | 1.5 |" in runs.markdown({"pixel_base": found}, args, "here")
    assert "not measured: why" in runs.markdown({"pixel_base": {"reason": "why"}}, args, "here")
    with pytest.raises(runs.MeasurementError):
        runs.figures([{}], 8)


def test_the_json_is_a_set_that_trains(tmp_path):
    """A detector's run, whose boxes and masks come from the file."""
    (tmp_path / "images").mkdir()
    records = runs.pictures(tmp_path / "images", 64, 48, 2, 3)
    runs.as_coco(records, tmp_path / "data.json")
    small = "train.init_checkpoint= dataloader.image.short_sides=[48] model.backbone.depths=[1,1,1]"
    args = argparse_of(
        f"runs --device cpu --steps 2 --batch 2 --workers 0 --overrides {small} train.amp.dtype=fp32"
    )
    found = runs.measure("mask_rcnn_nano", args, str(tmp_path))
    assert found["images_per_s"] > 0 and found["rows"] == 1
