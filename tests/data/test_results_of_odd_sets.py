"""What is evaluated, and what is written, of sets whose json is odd."""

import copy
import json

import numpy as np
import pytest

from itpn_d2.data.records import read_category
from tests.data.coco_sets import all_ids, every, made_set, perfect, predict


def test_results_keep_the_ids_of_the_json(write, tmp_path):
    data = made_set()
    all_ids(lambda i: "one" if i == 1 else i)(data)
    assert "bbox" in predict(write(data), tmp_path / "out")
    results = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert [r["image_id"] for r in results] == [2, 3, "one"] and {r["category_id"] for r in results} == {9}


UNANNOTATED = {
    "none": lambda d: d.update(annotations=[]),
    "absent": lambda d: d.pop("annotations"),
    "null": lambda d: d.update(annotations=None),
}


@pytest.mark.parametrize("kind", UNANNOTATED)
def test_predictions_of_a_set_without_annotations(write, tmp_path, kind, caplog):
    data = made_set()
    UNANNOTATED[kind](data)
    assert predict(write(data), tmp_path / "out") == {}
    results = json.loads((tmp_path / "out" / "instances.json").read_text())
    found = [(r["image_id"], r["category_id"], r["bbox"]) for r in results]
    assert found == [(i, 9, [1, 2, 8, 7]) for i in (1, 2, 3)]
    assert "instances.json" in caplog.text and "no annotations" in caplog.text


def test_small_stays_small(write):
    """The area that a size class is chosen by is the object's, whatever the json says."""
    data = made_set()
    every("area", lambda a, n: 96.0**2 * 4)(data)
    found = perfect(write(data))["bbox"]
    assert found["APs"] > 99.9 and np.isnan(found["APl"])


def test_more_objects_than_detections_that_count(write, caplog):
    data = made_set(images=1, each=1)
    data["annotations"] = [
        {"id": n + 1, "image_id": 1, "category_id": 4, "bbox": [n % 30, n // 30, 5, 5]} for n in range(101)
    ]
    perfect(write(data))
    assert "more objects of a class than the 100 detections" in caplog.text
    assert "dataloader.evaluator.max_dets_per_image=101" in caplog.text


def test_the_json_is_not_changed(write, tmp_path):
    data = made_set()
    before = copy.deepcopy(data)
    write(data)
    assert json.loads((tmp_path / "data.json").read_text()) == before


def test_names_that_no_file_can_hold():
    """A json may hold half of a character; yaml, pictures and consoles may not."""
    names = r'"name": "a\ud800b", "supercategory": "\udfff", "keypoints": ["\ud83d\ude00"]'
    record = json.loads('{"id": 1, ' + names + "}")
    found = read_category(record)
    assert (found.name, found.supercategory, found.keypoints) == ("a\ufffdb", "\ufffd", ("\U0001f600",))
    for text in (found.name, found.supercategory):
        assert text.encode().decode() == text
