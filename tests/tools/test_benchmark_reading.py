"""The benchmark of reading: all ways find the same objects, and its table is written."""

import json

import benchmark
from benchmarks import reading


def test_all_ways_find_the_same(tmp_path):
    path = reading.generate(tmp_path, 40, 3)  # more images than there are different pictures
    found = [way(str(path), str(tmp_path / "images")) for way in reading.WAYS.values()]
    for kept in found:
        assert len(kept) == 40
        assert [len(kept[k]["annotations"]) for k in (0, 39)] == [3, 3]
        assert kept[39]["file_name"].endswith("000000000040.jpg")
    boxes = [[thing["bbox"] for record in kept for thing in record["annotations"]] for kept in found]
    assert boxes[0] == boxes[1] == boxes[2]


def test_table(tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text("# Benchmarks\n")
    options = ["--images", "6", "--processes", "1", "--rounds", "2", "--docs", str(tmp_path)]
    benchmark.main(["reading", *options, "--json", str(tmp_path / "out.json")])
    text = page.read_text()
    assert "6 images and 42 objects" in text and text.count("\n| ") == 1 + len(reading.WAYS)
    ways = json.loads((tmp_path / "out.json").read_text())["ways"]
    for rounds in ways.values():
        assert len(rounds) == 2 and all(seconds > 0 and count == 6 for seconds, _, count in rounds)
