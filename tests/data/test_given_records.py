"""What users' own functions give Detectron2, checked and measured as a json of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from omegaconf import OmegaConf

from itpn_d2.data import DatasetError, prepare_datasets, register_builtin
from itpn_d2.data.catalogs import register
from tests.data.coco_sets import (
    HEIGHT,
    WIDTH,
    compressed,
    is_whole,
    made_set,
    mask_of,
    predict,
)


def records(data, mode=BoxMode.XYWH_ABS):
    """What a user's own function returns."""
    found = []
    for image in data["images"]:
        objects = [
            {
                "bbox": BoxMode.convert(a["bbox"], BoxMode.XYWH_ABS, mode),
                "bbox_mode": mode,
                "category_id": {4: 0, 9: 1}[a["category_id"]],
                "segmentation": a["segmentation"],
                "iscrowd": 0,
            }
            for a in data["annotations"]
            if a["image_id"] == image["id"]
        ]
        entry = {"file_name": image["file_name"], "image_id": image["id"], "annotations": objects}
        found.append({**entry, "width": WIDTH, "height": HEIGHT})
    return found


def by_function(place, change=lambda found: found, name="function", **metadata):
    found = records(made_set())
    for record in found:
        record["file_name"] = str(place / record["file_name"])
    found = change(found) or found
    DatasetCatalog.register(name, lambda: found)
    MetadataCatalog.get(name).set(**{"thing_classes": ["bolt", "nut"], **metadata})
    return name


FUNCTIONS = {
    "as it is": lambda found: None,
    "corners": lambda found: (
        [
            a.update(bbox=np.array(BoxMode.convert(a["bbox"], a["bbox_mode"], 0)), bbox_mode=0)
            for r in found
            for a in r["annotations"]
        ]
        and None
    ),
    "tuples and arrays": lambda found: (
        [
            a.update(bbox=tuple(a["bbox"]), segmentation=[np.array(a["segmentation"][0])])
            for r in found
            for a in r["annotations"]
        ]
        and None
    ),
    "names as ids": lambda found: [r.update(image_id=f"picture {r['image_id']}") for r in found] and None,
    "no ids": lambda found: [r.pop("image_id") for r in found] and None,
    "no sizes": lambda found: [(r.pop("width"), r.pop("height")) for r in found] and None,
    "bytes": lambda found: (
        [
            a.update(
                segmentation={"size": [HEIGHT, WIDTH], "counts": compressed(mask_of(a))["counts"].encode()}
            )
            for r in found
            for a in r["annotations"]
        ]
        and None
    ),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_functions(place, kind):
    is_whole(register_builtin(by_function(place, FUNCTIONS[kind])))


def change_first(**fields):
    return lambda found: found[0]["annotations"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_first(bbox_mode=None), "no bbox_mode: .*XYXY_ABS"),
        (change_first(bbox_mode=BoxMode.XYXY_REL), "bbox_mode is XYXY_REL"),
        (change_first(bbox_mode=17), "bbox_mode is 17"),
        (change_first(bbox_mode=BoxMode.XYXY_ABS, bbox=[20, 20, 5, 5]), "has no area"),
        (change_first(bbox=[60, 40, 70, 50]), "read as corners x1, y1, x2, y2, it would fit"),
        (change_first(category_id=7), "category_id 7 is not declared"),
        (change_first(segmentation={"size": [HEIGHT, WIDTH], "counts": b"3"}), "does not fill its image"),
        (change_first(segmentation=[[1, 2, 3, 4]]), "under 3 points"),
        (lambda found: found[0].pop("file_name") and None, "no file_name"),
        (lambda found: found[0].update(file_name="none.png"), "no file none.png"),
        (lambda found: found[0].update(width=HEIGHT, height=WIDTH), "are exchanged"),
        (lambda found: found[0]["annotations"].append([1]), "is not a dict"),
        (lambda found: found.append("picture 1.png"), "no object"),
    ],
)
def test_records_of_functions_are_refused_by_name(place, change, words):
    name = by_function(place, lambda found: change(found) and None)
    with pytest.raises(DatasetError, match=f"(?s)dataset 'function': .*{words}"):
        register_builtin(name)
    left = register_builtin(name, skip_bad_records=True)
    is_whole(left, sum(len(r["annotations"]) for r in DatasetCatalog.get(left)))


def test_what_belongs_to_no_image_is_left_out(place):
    """Of two images of one id, objects might be of either."""
    name = by_function(place, lambda found: found[0].update(image_id=2))
    with pytest.raises(DatasetError, match="id 2 is used twice"):
        register_builtin(name)
    left = DatasetCatalog.get(register_builtin(name, skip_bad_records=True))
    assert [r["image_id"] for r in left] == [3]
    name = by_function(place, lambda found: found[0].update(annotations=5), name="number")
    with pytest.raises(DatasetError, match="annotations is 5, not a list"):
        register_builtin(name)
    left = DatasetCatalog.get(register_builtin(name, skip_bad_records=True))
    assert [r["image_id"] for r in left] == [2, 3]


def test_classes_that_count_from_one(place):
    def change(found):
        for record in found:
            for annotation in record["annotations"]:
                annotation["category_id"] += 1

    with pytest.raises(DatasetError, match="these ids start at 1: subtract 1 from each"):
        register_builtin(by_function(place, change))


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "returns a NoneType"),
        ([], "returns an empty list"),
        ({"a": 1}, "returns a dict"),
    ],
)
def test_functions_that_return_no_records(place, result, words):
    DatasetCatalog.register("none", lambda: result)
    with pytest.raises(DatasetError, match=f"dataset 'none': .*{words}"):
        MetadataCatalog.get("none").thing_classes = ["a"]
        register_builtin("none")


def test_functions_that_fail_and_metadata_without_classes(place):
    def load():
        return (place / "none.csv").read_text()

    DatasetCatalog.register("fails", load)
    with pytest.raises(DatasetError, match=r"'fails': the function .* fails: FileNotFoundError.*none.csv"):
        register_builtin("fails")
    DatasetCatalog.register("unnamed", lambda: records(made_set()))
    with pytest.raises(DatasetError, match="lacks thing_classes.*MetadataCatalog.get"):
        register_builtin("unnamed")


def test_other_keys_and_repeats_are_kept(place):
    def change(found):
        found[0]["season"] = "winter"
        found[0]["annotations"][0]["depth"] = 3
        return [*found, found[1]]

    name = register_builtin(by_function(place, change))
    found = DatasetCatalog.get(name)
    assert [r["image_id"] for r in found] == [1, 2, 3, 2] and found[0]["season"] == "winter"
    assert found[0]["annotations"][0]["depth"] == 3 and found[3] == found[1]
    assert len(json.loads(Path(MetadataCatalog.get(name).json_file).read_text())["images"]) == 3


def test_results_have_the_users_ids(place):
    name = by_function(place, thing_dataset_id_to_contiguous_id={40: 0, 7: 1})
    predict(register_builtin(name), place / "out")
    results = json.loads((place / "out" / "coco_instances_results.json").read_text())
    assert {r["category_id"] for r in results} == {7} and [r["image_id"] for r in results] == [1, 2, 3]


def prepared(name, **options):
    dataset = {"train": None, "num_classes": None, "class_names": None}
    dataset = OmegaConf.create(dataset, flags={"allow_objects": True})
    dataset.val = {"_target_": "itpn_d2.data.register_builtin", "name": name}
    prepare_datasets(dataset, **options)
    return dataset


def test_projects_own_way_of_registering(place):
    """See docs/extending.md: its records are checked by ``prepare_datasets``."""
    found = records(made_set())
    for record in found:
        record["file_name"] = str(place / record["file_name"])
    found[0]["annotations"][0]["bbox"] = [1, 2, -3, 4]
    name = register("own", (1,), lambda: found, thing_classes=["bolt", "nut"], evaluator_type="coco")
    with pytest.raises(DatasetError, match="bad box"):
        prepared(name)
    prepared(name, skip_bad_records=True)
    is_whole(name, 5)
