"""The annotations of an evaluation: parsed by one process of a machine, with the numbers of COCO's object."""

import json

import pytest
from detectron2.utils import comm
from pycocotools.coco import COCO

from itpn_d2.engine.launch import _set_local_group
from itpn_d2.errors import DatasetError
from itpn_d2.evaluation import truth as module
from itpn_d2.evaluation.truth import Truth, read_truth
from tests.data.coco_sets import made_set
from tests.engine.forked import forked


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_kept", {})
    data = made_set(images=5, each=3)
    data["annotations"][4]["iscrowd"] = 1
    (tmp_path / "a.json").write_text(json.dumps(data))
    return str(tmp_path / "a.json")


def counted(monkeypatch):
    parsed = []
    load = json.load
    monkeypatch.setattr(module.json, "load", lambda file: parsed.append(comm.get_rank()) or load(file))
    return parsed


def test_some_images_and_all(path):
    truth, whole = read_truth(path), COCO(path)
    assert truth.image_ids.tolist() == whole.getImgIds() and truth.annotated and truth.keypoints == 0
    assert truth.of(None).dataset["annotations"] == whole.dataset["annotations"]
    some = truth.of([4, 2])
    assert (
        some.getAnnIds(imgIds=[2, 4]) == whole.getAnnIds(imgIds=[2, 4])
        and some.getCatIds() == whole.getCatIds()
    )
    assert sorted(some.getImgIds()) == [2, 4] and len(some.anns) == 6
    assert truth.of(()).anns == {} and truth.of(()).getCatIds() == whole.getCatIds()
    crowd = whole.dataset["annotations"][4]
    expected = [a for a in whole.dataset["annotations"] if a != crowd]
    assert list(truth.objects()) == expected
    assert list(truth.objects([2])) == [a for a in expected if a["image_id"] == 2]
    assert sum(truth.counts().values()) == 14 and truth.counts()[
        crowd["image_id"], crowd["category_id"]
    ] == 0 + sum(
        (a["image_id"], a["category_id"]) == (crowd["image_id"], crowd["category_id"]) for a in expected
    )


def test_without_annotations():
    data = made_set()
    del data["annotations"]
    assert not Truth(data).annotated and Truth({**data, "annotations": []}).annotated
    assert Truth(data).of([1]).anns == {}


def test_one_process_parses_and_only_once(path, tmp_path, monkeypatch):
    def read():
        _set_local_group(2)
        parsed = counted(monkeypatch)
        found = [len(read_truth(path).of([1, 5]).anns) for _ in range(2)]
        return parsed, found

    assert forked(2, read, tmp_path) == [([0], [6, 6]), ([], [6, 6])]


def test_a_json_that_has_changed_is_read_anew(path, monkeypatch):
    parsed = counted(monkeypatch)
    before = read_truth(path)
    assert read_truth(path) is before and len(parsed) == 1
    data = made_set(images=2)
    with open(path, "w") as file:
        json.dump(data, file)
    assert read_truth(path).image_ids.tolist() == [1, 2] and len(parsed) == 2


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"images": [{}]}'])
def test_no_json_of_coco(path, content):
    if content is None:
        path = f"{path}.missing"
    else:
        with open(path, "w") as file:
            file.write(content)
    with pytest.raises(DatasetError, match="no COCO json to evaluate with"):
        read_truth(path)
