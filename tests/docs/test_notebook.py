"""The notebook runs as it stands, and its stored outputs are those of its cells."""

import json
import logging
from pathlib import Path

import pytest

import notebook

PATH = Path(__file__).resolve().parents[2] / "docs" / "tutorials" / "coco_to_report.ipynb"


def stored():
    return json.loads(PATH.read_text(encoding="utf-8"))


def test_cells_run_in_one_namespace_and_show_their_last_value():
    cells = [{"cell_type": "code", "metadata": {}, "source": [s]} for s in ("x = 2\nprint(x)", "x + 1")]
    cells.append({"cell_type": "code", "metadata": {"tags": ["quiet"]}, "source": ["print(x)"]})
    first, second, quiet = notebook.execute({"cells": cells})["cells"]
    assert first["outputs"][0]["text"] == ["2\n"]
    assert second["outputs"][0]["data"]["text/plain"] == ["3"]
    assert quiet["outputs"] == []


def test_it_is_stored_with_outputs_and_without_places_of_a_machine():
    text = PATH.read_text(encoding="utf-8")
    code = [c for c in stored()["cells"] if c["cell_type"] == "code"]
    assert sum(bool(c["outputs"]) for c in code) >= 4
    assert "/home" not in text and "/tmp" not in text and "/root" not in text


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    cut = json.loads(PATH.read_text(encoding="utf-8").replace("train.max_iter=150", "train.max_iter=2"))
    try:
        done = notebook.execute(cut)
    finally:
        for name in ("itpn_d2", "detectron2", "fvcore"):  # handlers on the standard output of a cell
            logging.getLogger(name).handlers.clear()
    assert (tmp_path / "output" / "notebook" / "picture.png").is_file()
    assert (tmp_path / "output" / "notebook" / "run" / "report.html").is_file()
    before, after = (
        [c["outputs"] for c in n["cells"] if c["cell_type"] == "code"][:2] for n in (stored(), done)
    )
    assert before == after
