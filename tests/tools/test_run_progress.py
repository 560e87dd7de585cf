"""What is said about trainings in other processes while they write."""

import json

from run_progress import last_metrics, progress


def test_the_last_whole_line_counts(tmp_path):
    lines = [json.dumps({"iteration": i, "eta_seconds": 190.4 - i}) for i in (19, 39)]
    (tmp_path / "metrics.json").write_text("\n".join(lines) + '\n{"iteration": 5')
    assert last_metrics(tmp_path)["iteration"] == 39


def test_a_long_file_is_not_read_whole(tmp_path):
    line = json.dumps({"iteration": 7, "more": "x" * 1000})
    (tmp_path / "metrics.json").write_text((line + "\n") * 100)
    assert last_metrics(tmp_path)["iteration"] == 7


def test_progress_names_every_run(tmp_path):
    for name in ("pixel_1", "none_1", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "none_1" / "metrics.json").write_text('{"iteration": 119, "eta_seconds": 190.4}\n')
    (tmp_path / "broken" / "metrics.json").write_bytes(b"\xff\n[1]\n")
    said = progress([tmp_path / "pixel_1", tmp_path / "none_1", tmp_path / "broken", tmp_path / "none"])
    assert said == "broken: starting; none: starting; none_1: iteration 120, 0:03:10 left; pixel_1: starting"
