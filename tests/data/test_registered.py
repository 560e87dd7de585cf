"""Sets that users have registered with Detectron2 themselves, read and checked as a json of one's own."""

import json
import logging
import re

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json, register_coco_instances
from omegaconf import OmegaConf
from PIL import Image

from itpn_d2.data import DatasetError, prepare_datasets, register_builtin, register_together
from itpn_d2.data.catalogs import dataset_facts
from tests.data.coco_sets import (
    HEIGHT,
    WIDTH,
    all_ids,
    compressed,
    every,
    first,
    images,
    is_whole,
    made_set,
    mask_of,
    perfect,
)


def theirs(place, data, metadata=None, name="theirs"):
    """As a user writes it."""
    (place / f"{name}.json").write_text(json.dumps(data))
    register_coco_instances(name, metadata or {}, str(place / f"{name}.json"), str(place))
    return name


TAKEN = {
    "clean": lambda d: None,
    "id/from zero": every("id", lambda a, n: n),
    "id/uuid": every("id", lambda a, n: f"0f{n}c-77aa"),
    "image id/names": all_ids(lambda i: f"picture {i}"),
    "image id/text of a number": every("image_id", lambda a, n: str(a["image_id"])),
    "crowd/null": every("iscrowd", lambda a, n: None),
    "area/null": every("area", lambda a, n: None),
    "size/null": images(lambda i: i.update(width=None, height=None)),
    "file/windows": images(lambda i: i.update(file_name=f"C:\\work\\{i['file_name']}")),
    "mask/runs": every("segmentation", lambda a, n: compressed(mask_of(a))),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_registered_jsons_are_taken_as_they_are_meant(place, kind):
    data = made_set()
    TAKEN[kind](data)
    is_whole(register_builtin(theirs(place, data)))


REFUSED = {
    "runs too short": (
        first(segmentation={"size": [HEIGHT, WIDTH], "counts": [5, 5]}),
        "add up to 10 pixels",
    ),
    "flat polygon": (first(segmentation=[1, 2, 9, 2, 9, 9]), "flat polygon"),
    "unknown image": (first(image_id=77), "image_id 77 is not declared"),
    "no file": (lambda d: d["images"][0].update(file_name="none.png"), "no file .*none.png"),
    "other size": (lambda d: d["images"][0].update(width=HEIGHT, height=WIDTH), "are exchanged"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_registered_jsons_are_refused_by_name(place, kind):
    data, (spoil, words) = made_set(), REFUSED[kind]
    spoil(data)
    name = theirs(place, data)
    with pytest.raises(DatasetError, match=f"(?s)theirs.json: 1 bad record.*{words}.*--skip-bad-records"):
        register_builtin(name)
    left = register_builtin(name, skip_bad_records=True)
    is_whole(left, sum(len(r["annotations"]) for r in DatasetCatalog.get(left)))


def test_metadata_of_the_user_stay(place):
    colours, mine = [(1, 2, 3), (4, 5, 6)], {"thing_colors": [(1, 2, 3), (4, 5, 6)], "season": "winter"}
    now = MetadataCatalog.get(register_builtin(theirs(place, made_set(), mine))).as_dict()
    assert (now["thing_colors"], now["season"], now["thing_classes"]) == (colours, "winter", ["bolt", "nut"])
    assert now["source_json"] == str(place / "theirs.json") != now["json_file"]


def test_other_names_in_the_metadata(place):
    with pytest.raises(DatasetError, match=r"thing_classes=\['nut', 'bolt'\].*\['bolt', 'nut'\]"):
        register_builtin(theirs(place, made_set(), {"thing_classes": ["nut", "bolt"]}))


def test_names_of_keypoints_that_only_the_metadata_have(place):
    data = made_set()
    every("keypoints", lambda a, n: [a["bbox"][0], a["bbox"][1], 2, 0, 0, 0])(data)
    mine = {"keypoint_names": ["left end", "right end"], "keypoint_flip_map": [("left end", "right end")]}
    name = register_builtin(theirs(place, data, mine))
    found = DatasetCatalog.get(name)[0]["annotations"][0]["keypoints"]
    assert found[2:] == [2, 0.5, 0.5, 0] and dataset_facts(name)["keypoint_flip"] == [1, 0]


def test_once_and_again_where_something_is_new(place):
    name = register_builtin(theirs(place, made_set()))
    read = DatasetCatalog.get(name)
    assert DatasetCatalog.get(register_builtin(name)) is read
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    theirs(place, made_set(images=2))
    assert len(DatasetCatalog.get(register_builtin(name))) == 2


def test_several_are_trained_together(place):
    parts = [theirs(place, made_set(seed), name=f"part{seed}") for seed in (0, 1)]
    spoilt = made_set(2)
    first(bbox=[1, 2, None, 4])(spoilt)
    parts.append(theirs(place, spoilt, name="part2"))
    with pytest.raises(DatasetError, match="part2.json"):
        register_together("together", parts)
    register_together("together", parts, skip_bad_records=True)
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get("together")) == 17


def test_what_a_config_registers_by_a_function_of_its_own(place):
    """A LazyConfig names any function that returns the name of a set."""
    data = made_set()
    every("id", lambda a, n: n)(data)
    dataset = OmegaConf.create(
        {"train": None, "num_classes": None, "class_names": None}, flags={"allow_objects": True}
    )
    dataset.val = {"_target_": lambda name: theirs(place, data, name=name), "name": "own"}
    prepare_datasets(dataset)
    assert dataset.num_classes == 2
    is_whole("own")


def with_json(place, data, load):
    (place / "data.json").write_text(json.dumps(data))
    DatasetCatalog.register(
        "both", lambda: load(load_coco_json(str(place / "data.json"), str(place), "both"))
    )
    both = {"json_file": str(place / "data.json"), "image_root": str(place), "evaluator_type": "coco"}
    MetadataCatalog.get("both").set(**both)
    return "both"


@pytest.mark.parametrize("kind", [k for k in TAKEN if k != "image id/text of a number"])
def test_functions_with_a_json(place, kind):
    data = made_set()
    TAKEN[kind](data)
    is_whole(register_builtin(with_json(place, data, lambda found: found)))


def test_what_a_function_leaves_out_is_not_trained_and_measured(place, caplog):
    def load(found):
        found[0]["annotations"] = found[0]["annotations"][:1]
        return found[:2]

    with caplog.at_level(logging.INFO, "itpn_d2"):
        name = register_builtin(with_json(place, made_set(), load))
    assert re.search("2 images with 3 annotations.* trained; evaluation uses the 4", caplog.text)
    assert [len(r["annotations"]) for r in DatasetCatalog.get(name)] == [1, 2]
    assert 50 < perfect(name)["bbox"]["AP"] < 90  # one of two bolts


def test_what_detectron2_loses_is_said(place, caplog):
    data = made_set()
    for annotation in data["annotations"][:2]:
        annotation["image_id"] = str(annotation["image_id"])
    register_builtin(with_json(place, data, lambda found: found))
    assert "3 images with 4 annotations, which are trained" in caplog.text


def test_images_that_the_json_has_not(place, caplog):
    data = made_set()
    Image.new("RGB", (WIDTH, HEIGHT)).save(place / "more.png")

    def load(found):
        return [*found, {**found[0], "image_id": 9, "file_name": str(place / "more.png")}]

    name = register_builtin(with_json(place, data, load))
    assert "returns other images than" in caplog.text
    is_whole(name, 8)


def labels(place, value=1, name="stuff", **metadata):
    for number in range(1, 4):
        Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint8)).save(place / f"labels {number}.png")
    found = [
        {"file_name": str(place / f"picture {n}.png"), "sem_seg_file_name": str(place / f"labels {n}.png")}
        for n in range(1, 4)
    ]
    DatasetCatalog.register(name, lambda: found)
    mine = {"stuff_classes": ["sky", "road"], "evaluator_type": "sem_seg", "ignore_label": 0}
    MetadataCatalog.get(name).set(**{**mine, **metadata})
    return name


def test_label_images(place):
    name = register_builtin(labels(place))
    assert MetadataCatalog.get(name).ignore_label == 255
    record = DatasetCatalog.get(name)[0]
    assert (record["labelling"].ignore_label, record["width"], record["height"]) == (0, WIDTH, HEIGHT)
    assert dataset_facts(name)["class_names"] == ["sky", "road"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"value": 2}, "number 2 is not a class"),
        ({"value": 0}, "all pixels of all label images are ignored"),
        ({"stuff_classes": []}, "lacks stuff_classes"),
    ],
)
def test_label_images_are_refused_by_name(place, options, words):
    with pytest.raises(DatasetError, match=f"(?s)dataset 'stuff'.*{words}"):
        register_builtin(labels(place, **options))


def test_label_images_that_are_missing(place):
    name = labels(place)
    (place / "labels 2.png").unlink()
    with pytest.raises(DatasetError, match="(?s)dataset 'stuff': 1 bad record.*labels 2.png"):
        register_builtin(name)
    assert len(DatasetCatalog.get(register_builtin(name, skip_bad_records=True))) == 2


def test_a_name_that_nobody_has_registered():
    with pytest.raises(DatasetError, match="did you mean coco_2017_val.*--import FILE.py"):
        register_builtin("coco_2017_vall")
