"""The heads' benchmark: it goes on where it was stopped, and writes what it measured."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

import benchmark
from benchmarks import heads as benchmark_heads
from benchmarks.clock import MeasurementError
from benchmarks.heads import HEADS, table, train_head
from itpn_d2.errors import UseError
from tests.tools.small_run import SMALL

ROOT = Path(__file__).resolve().parents[2]


def row(score=50.0):
    return {"score": score, "model": 49.0, "seconds": 90.0, "parameters": 2_500_000, "dtype": "bfloat16"}


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "benchmarks.md").write_text("# Benchmarks\n\nWhat was before.\n")
    return tmp_path / "docs"


def arguments(docs, **options):
    given = {
        "heads": ["fcos", "upernet"],
        "iterations": 7,
        "docs": docs,
        "runs": docs / "runs",
        "override": [],
    }
    return Namespace(**{**given, "device": "cpu", "json": None, "markdown": None, **options})


@pytest.fixture
def calls(monkeypatch):
    """The heads that were trained; one of them may fail."""
    seen = []

    def instead(function, name, *rest):
        seen.append(name)
        if name in seen.broken:
            raise MeasurementError(f"train_head({name}): no memory\nsecond line")
        return row(50.0 + len(seen))

    class Calls(list):
        broken = ()

    seen = Calls()
    monkeypatch.setattr(benchmark_heads, "own_process", instead)
    return seen


def test_every_quickstart_head_is_measured():
    names = {p.stem for p in (ROOT / "configs" / "Quickstart").glob("*.py")}
    pretraining = ("pixel", "mfm", "fastmim")
    # DINO and Mask DINO learn more slowly: docs/dino.md; the heads of other networks are the same
    found = {n for n in names if not n.startswith(pretraining) and "dino" not in n and "fast_itpn" in n}
    assert found == {f"{name}_fast_itpn_nano" for name in HEADS}


def test_a_second_call_measures_what_is_left(docs, calls):
    calls.broken = ("upernet",)
    text, found = benchmark_heads.run(arguments(docs))
    assert calls == ["fcos", "upernet"] and "not measured: train_head(upernet): no memory |" in text
    calls.broken = ()
    benchmark_heads.run(arguments(docs))
    assert calls == ["fcos", "upernet", "upernet"]
    kept = json.loads((docs / "measured" / "heads.json").read_text())
    assert kept["heads"]["fcos"]["score"] == 51.0 and kept["heads"]["upernet"]["score"] == 53.0


def test_another_setting_starts_anew(docs, calls):
    benchmark_heads.run(arguments(docs))
    benchmark_heads.run(arguments(docs, iterations=8))
    assert calls == ["fcos", "upernet"] * 2


def test_the_page_gets_one_section(docs, calls):
    benchmark_heads.run(arguments(docs))
    benchmark_heads.run(arguments(docs, iterations=9))
    page = (docs / "benchmarks.md").read_text()
    assert page.startswith("# Benchmarks\n\nWhat was before.\n") and page.count("## Heads") == 1
    assert "--iterations 9" in page and "--iterations 7" not in page
    (docs / "benchmarks.md").write_text(page.replace("<!-- heads: end -->", ""))
    with pytest.raises(UseError, match="once each, or neither"):
        benchmark_heads.run(arguments(docs, iterations=10))


def test_table_says_what_was_asked_for():
    setting = {"iterations": 5, "overrides": []}
    found = {
        "setting": setting,
        "machine": "a test",
        "torch": "2",
        "heads": {"fcos": row(1.0), "upernet": row(99.0)},
    }
    lines = table(found).splitlines()
    assert len(lines) == 6
    assert lines[4].endswith("| bbox/AP | 1.0 (49.0) | 20 | no |")
    assert lines[5] == "| upernet | semantic | 2.50 | 1.5 | sem_seg/mIoU | 99.0 (49.0) | 20 | yes |"


def test_the_command_knows_it():
    args = benchmark.parse(["heads", "--heads", "fcos", "--iterations", "3", "--docs", "docs"])
    assert args.heads == ["fcos"] and args.docs == Path("docs")
    with pytest.raises(SystemExit):
        benchmark.parse(["heads", "--heads", "dpt"])


def test_a_head_is_trained_scored_and_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    first = train_head("upernet", 6, "cpu", str(tmp_path / "run"), SMALL)
    assert 0 <= first["score"] <= 100 and first["seconds"] > 0 and first["parameters"] > 1000
    assert "sem_seg/mACC" in first["results"] and not any("IoU-" in k for k in first["results"])
    stamp = (tmp_path / "run" / "results.json").stat().st_mtime_ns
    assert train_head("upernet", 6, "cpu", str(tmp_path / "run"), SMALL) == first
    assert (tmp_path / "run" / "results.json").stat().st_mtime_ns == stamp
