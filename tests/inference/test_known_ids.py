"""Ids of somebody's json for results: by the path's end, whatever kind of id."""

import json

import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from itpn_d2.errors import ConfigError
from itpn_d2.inference import ResultFiles
from itpn_d2.inference.known_ids import KnownIds

SIZE = (20, 30)
LISTED = {"images/a/im0.png": 7, "images/b/im0.png": "seven", "c\\im1.png": "08", "d/im2.png": 9}


@pytest.fixture
def known(tmp_path):
    def write(listed=LISTED, encoding="utf-8", categories=((3, "cat"), ("d", "dog"))):
        content = {
            "images": [{"id": i, "file_name": name} for name, i in listed.items()],
            "categories": [{"id": i, "name": name} for i, name in categories],
        }
        path = tmp_path / "known.json"
        path.write_bytes(json.dumps(content).encode(encoding))
        return path

    return write


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/im0.png", 7),
        ("x/images/b/im0.png", "seven"),
        ("im0.png", None),  # two end so
        ("im1.png", "08"),
        ("IM2.PNG", 9),
        ("e/im2.png", None),
        ("none.png", None),
    ],
)
def test_by_the_end_that_one_path_has(known, name, found):
    ids = KnownIds(known())
    assert ids.image(name) == found
    assert ids.unknown == ([] if found else [name]) and ids.missing == (3 if found else 4)


def test_an_id_is_given_once(known):
    ids = KnownIds(known())
    assert [ids.image("im2.png"), ids.image("d/im2.png")] == [9, None]


def instances():
    found = Instances(SIZE, pred_boxes=Boxes(torch.tensor([[1.0, 2, 9, 8]])))
    found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([1])
    return {"instances": found}


def test_results_have_them_and_say_what_found_nothing(known, tmp_path):
    files = ResultFiles(tmp_path / "out", Metadata(thing_classes=["cat", "dog"]), known(encoding="utf-8-sig"))
    assert [files.add(n, SIZE, instances()) for n in ("im1.png", "new.png", "b/im0.png")] == [
        "08",
        10,
        "seven",
    ]
    files.save()
    results = json.loads((tmp_path / "out/instances.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in results] == [("08", "d"), (10, "d"), ("seven", "d")]
    assert files.unmatched() == [
        "1 images have no unique id in the json and got new ones; the first is new.png",
        "2 images of the json have no results",
    ]


def test_panoptic_pictures_of_text_ids(known, tmp_path):
    files = ResultFiles(tmp_path / "out", Metadata(stuff_classes=["sky"]), known({"im.png": "a/ü"}))
    ids = torch.zeros(SIZE, dtype=torch.int32)
    files.add("im.png", SIZE, {"panoptic_seg": (ids, [])})
    assert [p.name for p in (tmp_path / "out/panoptic").iterdir()] == ["a%2F%C3%BC.png"]


@pytest.mark.parametrize("bad", [None, [1], {"a": 1}, True])
def test_ids_that_are_none(known, bad):
    with pytest.raises(ConfigError, match="known.json: not a COCO json"):
        KnownIds(known({"im.png": bad}))


def test_classes_that_it_lacks(known):
    with pytest.raises(ConfigError, match="no category cow"):
        ResultFiles(known().parent, Metadata(thing_classes=["cow"]), known())
