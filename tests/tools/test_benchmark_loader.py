"""The benchmark of loading: it compares the same samples, and documents what it measured."""

import argparse
import json

import numpy as np
import torch

import benchmark
from benchmarks import loader
from benchmarks.loader_cases import cases, pictures


def test_ours_are_the_same_samples(tmp_path):
    record = pictures(tmp_path, 96, 64, 1, 2)[0]
    assert len(record["annotations"]) == 2
    for name, case in cases().items():
        found = [side(record, 3) for side in (case.sides["pillow"], case.sides["auto"])]
        images = [sample["image"].int() for sample in found]
        assert images[0].shape == images[1].shape, name
        if name not in ("custom", "classification"):  # two colours in a row may add up their roundings
            assert (images[0] - images[1]).abs().max() <= 2, name
        if "Detectron2" in case.sides:
            theirs = case.sides["Detectron2"](record, 3)
            assert torch.equal(theirs["instances"].gt_boxes.tensor, found[0]["instances"].gt_boxes.tensor)


def test_times_are_told(tmp_path, capsys):
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n")
    options = ["--sizes", "96x64", "--images", "1", "--objects", "1", "--rounds", "2", "--cases", "short"]
    benchmark.main(["loader", *options, "--docs", str(tmp_path), "--json", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())["milliseconds"]["short 96x64"]
    assert set(found) == {"pillow", "auto", "Detectron2", "torchvision v2"}
    assert all(len(times) == 2 and min(times) > 0 for times in found.values())
    assert "short side 800, boxes" in page.read_text() and "## Loading" in page.read_text()


def test_the_row_has_medians_and_the_gain():
    case = cases()["short"]
    spent = {"pillow": [3.0, 1.0, 2.0], "auto": [1.0, 1.0, 1.0], "Detectron2": [3.0, 3.0, 9.0]}
    assert loader.row(case, "8x8", spent).endswith("| 2.0 | 1.0 | 3.0 |  |  | 3.00 (met: 2.5) |")
    slow = {**spent, "auto": [2.0, 2.0, 2.0]}
    assert "1.50 (missed: 2.5)" in loader.row(case, "8x8", slow)
    parser = argparse.ArgumentParser()
    loader.add_options(parser)
    assert np.all([size in loader.SIZES for size in parser.parse_args([]).sizes])
