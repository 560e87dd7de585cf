"""COCO's own sets by their names: our reader beside Detectron2's, on clean data and on dirty."""

import copy
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES, _get_builtin_metadata
from detectron2.data.datasets.coco import load_coco_json
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from itpn_d2.data import DatasetError, prepare_datasets, register_builtin
from itpn_d2.data.catalogs import dataset_facts
from itpn_d2.data.coco_check import read_coco
from itpn_d2.data.official import OfficialChecker

NAME, PEOPLE = "coco_2017_val", "keypoints_coco_2017_val"
THINGS = [c for c in COCO_CATEGORIES if c["isthing"]]


def crowd_rle(height, width):
    mask = np.zeros((height, width), np.uint8)
    mask[2:30, 3:40] = 1
    runs, value, count = [], 0, 0
    for pixel in mask.T.ravel():
        if pixel != value:
            runs, value, count = [*runs, count], pixel, 0
        count += 1
    return {"size": [height, width], "counts": [*runs, count]}


def content(seed=0):
    """As COCO writes it: ids with gaps, neither images nor annotations in their order, crowds as runs."""
    rng = np.random.default_rng(seed)
    images = [{"id": i, "file_name": f"{i:012}.jpg", "width": 96, "height": 64} for i in (885, 139, 632, 285)]
    annotations = []
    for number in rng.permutation(24):
        x, y, w, h = (round(float(v), 2) for v in rng.uniform((0, 0, 10, 8), (50, 30, 40, 30)))
        crowd = number == 3
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        annotations.append(
            {
                "id": int(number) * 37 + 900,
                "image_id": int(rng.choice([885, 139, 632])),  # 285 has no object
                "category_id": int(rng.choice([1, 13, 90])),
                "bbox": [3, 2, 37, 28] if crowd else [x, y, w, h],
                "area": 1036 if crowd else round(w * h * 0.9, 3),
                "iscrowd": int(crowd),
                "segmentation": crowd_rle(64, 96) if crowd else [corners],
            }
        )
    categories = [{k: c[k] for k in ("id", "name")} | {"supercategory": "x"} for c in THINGS]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories[::-1]}


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """COCO's folder, and Detectron2's two names for its validation set."""
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    for image in content()["images"]:
        cv2.imwrite(str(root / "val2017" / image["file_name"]), np.full((64, 96, 3), 90, np.uint8))
    before = {}
    for name, kind, file in (
        (NAME, "coco", "instances_val2017.json"),
        (PEOPLE, "coco_person", "person_keypoints_val2017.json"),
    ):
        before[name] = (DatasetCatalog[name], MetadataCatalog.get(name).as_dict())
        for catalog in (DatasetCatalog, MetadataCatalog):
            catalog.remove(name)
        annotations = str(root / "annotations" / file)
        register_coco_instances(name, _get_builtin_metadata(kind), annotations, str(root / "val2017"))
    write(root, content())
    yield root
    for name, (load, metadata) in before.items():
        for catalog in (DatasetCatalog, MetadataCatalog):
            catalog.remove(name)
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(**{k: v for k, v in metadata.items() if k != "name"})


def write(root, data, file="instances_val2017.json"):
    path = root / "annotations" / file
    path.write_text(json.dumps(data))
    return path


def comparable(records):
    """Detectron2 keeps numbers as they are written, and text as bytes."""
    for record in copy.deepcopy(records):
        for found in record["annotations"]:
            found["bbox"] = [float(v) for v in found["bbox"]]
            mask = found["segmentation"]
            if isinstance(mask, dict):
                text = mask["counts"] if isinstance(mask["counts"], str) else mask["counts"].decode()
                found["segmentation"] = {"size": list(mask["size"]), "counts": text}
            if "keypoints" in found:
                found["keypoints"] = [float(v) for v in found["keypoints"]]
        yield record


def both(name):
    """The records of Detectron2's reader and of ours, with what the catalog knew before and knows now."""
    theirs, before = list(comparable(DatasetCatalog.get(name))), MetadataCatalog.get(name).as_dict()
    assert register_builtin(name) == name
    return theirs, list(comparable(DatasetCatalog.get(name))), before, MetadataCatalog.get(name).as_dict()


def test_clean_data_are_read_as_by_detectron2(coco):
    theirs, ours, before, now = both(NAME)
    assert ours == theirs and [r["image_id"] for r in ours] == [139, 285, 632, 885]
    assert sum(a["iscrowd"] for r in ours for a in r["annotations"]) == 1
    for key in ("thing_classes", "thing_colors", "thing_dataset_id_to_contiguous_id", "evaluator_type"):
        assert now[key] == before[key], key
    assert now["json_file"] != before["json_file"] and now["source_json"] == before["json_file"]
    facts = dataset_facts(NAME)
    assert facts["num_classes"] == 80 and facts["class_names"][-1] == "toothbrush"


def test_people_keep_their_keypoints(coco):
    person = {"id": 1, "name": "person", "supercategory": "person"}
    names = list(_get_builtin_metadata("coco_person")["keypoint_names"])
    data = content()
    data["categories"] = [{**person, "keypoints": names, "skeleton": [[16, 14], [14, 12]]}]
    rng = np.random.default_rng(1)
    for found in data["annotations"]:
        found["category_id"] = 1
        points = np.stack([rng.integers(0, 96, 17), rng.integers(0, 64, 17), rng.integers(0, 3, 17)], 1)
        found.update(keypoints=points.ravel().tolist(), num_keypoints=int((points[:, 2] > 0).sum()))
    write(coco, data, "person_keypoints_val2017.json")
    theirs, ours, before, now = both(PEOPLE)
    assert ours == theirs
    for key in ("keypoint_names", "keypoint_flip_map", "keypoint_connection_rules", "thing_classes"):
        assert now[key] == before[key], key
    assert dataset_facts(PEOPLE)["num_keypoints"] == 17


def precision(json_file, kind, seed=5):
    """AP of the same rough detections, as pycocotools measures them with this json."""
    truth, rng, found = COCO(json_file), np.random.default_rng(seed), []
    for original in content()["annotations"] * 2:
        if original["iscrowd"]:
            continue
        x, y, w, h = np.array(original["bbox"]) + rng.uniform(-3, 3, 4)
        entry = {"image_id": original["image_id"], "category_id": original["category_id"]}
        entry["score"] = float(rng.uniform())
        if kind == "bbox":
            entry["bbox"] = [x, y, w, h]
        else:
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            entry["segmentation"] = mask_util.frPyObjects([polygon], 64, 96)[0]
        found.append(entry)
    evaluation = COCOeval(truth, truth.loadRes(found), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_ap_is_that_of_the_original_file(coco, kind, capsys):
    """Also of objects without an area, out of the image, or of odd areas, which COCO's files have."""
    data = content()
    odd = [a for a in data["annotations"] if not a["iscrowd"]]
    odd[0]["bbox"] = [20.5, 30.2, 1.03, 0.0]
    odd[1]["bbox"] = [80.0, 40.0, 30.0, 10.0]
    odd[2]["segmentation"] = [[10.2, 10.2, 10.3, 10.2, 10.3, 10.3]]
    odd[3]["area"] = 20000.5
    path = write(coco, data)
    register_builtin(NAME)
    own = MetadataCatalog.get(NAME).json_file
    assert own != str(path)
    expected = precision(str(path), kind)
    assert precision(own, kind) == pytest.approx(expected, abs=0) and 0.05 < expected[0] < 0.95


def test_what_is_measured_and_not_trained_is_counted(coco, caplog):
    data = content()
    for number, odd in enumerate(a for a in data["annotations"] if not a["iscrowd"]):
        if number < 2:
            odd["bbox"] = [20.5, 30.2, 1.03, 0.0]
        elif number == 2:
            odd["segmentation"] = [[10.2, 10.2, 10.3, 10.2, 10.3, 10.3]]
    write(coco, data)
    with caplog.at_level(logging.INFO):
        register_builtin(NAME)
    assert "2 x an annotation that is evaluated, as in COCO, but not trained (bad box)" in caplog.text
    assert (
        "1 x an annotation that is evaluated, as in COCO, but not trained (mask without a pixel)"
        in caplog.text
    )
    assert "1 x a crowd" in caplog.text
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get(NAME)) == 21
    written = json.loads(Path(MetadataCatalog.get(NAME).json_file).read_text())["annotations"]
    assert [a["id"] for a in written] == list(range(1, 25))


def test_ids_from_zero_count_as_they_should(coco):
    """pycocotools takes the id 0 for no match: with it, a detection that is right is a miss."""
    data = content()
    for number, annotation in enumerate(data["annotations"]):
        annotation["id"] = number
    write(coco, data)
    register_builtin(NAME)
    written = json.loads(Path(MetadataCatalog.get(NAME).json_file).read_text())["annotations"]
    assert [a["id"] for a in written] == list(range(1, 25))
    assert [a["image_id"] for a in written] == [a["image_id"] for a in data["annotations"]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["annotations"][0].update(image_id=7), "image_id 7 is not declared"),
        (lambda d: d["annotations"][0].update(category_id=12), "category_id 12 is not declared"),
        (lambda d: d["annotations"][0].update(bbox=[1, 2, None, 4]), "four finite numbers"),
        (lambda d: d["annotations"][0].update(area="large"), "area is 'large'"),
        (lambda d: d["annotations"][0].update(id=d["annotations"][1]["id"]), "is used twice"),
        (lambda d: d["annotations"][0].update(segmentation=[1, 2, 3, 4, 5, 6]), "one list of numbers"),
        (
            lambda d: d["annotations"][0].update(segmentation={"size": [64, 96], "counts": [5, 5]}),
            "runs add up to 10 pixels",
        ),
        (lambda d: d["images"][0].update(file_name="none.jpg"), "no file .*none.jpg"),
    ],
)
def test_dirty_data_are_named(coco, change, words):
    data = content()
    change(data)
    write(coco, data)
    with pytest.raises(DatasetError, match=f"(?s)1 bad record.*{words}.*--skip-bad-records"):
        register_builtin(NAME)
    assert register_builtin(NAME, skip_bad_records=True) == NAME


def test_another_number_of_classes_than_the_model_has(coco):
    data = content()
    data["categories"] = [c for c in data["categories"] if c["id"] in (1, 13, 90)]
    write(coco, data)
    from detectron2.config import LazyCall
    from omegaconf import OmegaConf

    dataset = OmegaConf.create(
        {"train": None, "num_classes": 80, "class_names": None}, flags={"allow_objects": True}
    )
    dataset.val = LazyCall(register_builtin)(name=NAME)
    with pytest.raises(DatasetError, match="num_classes=80, but dataset.val has 3 classes"):
        prepare_datasets(dataset)
    assert "thing_colors" not in MetadataCatalog.get(NAME).as_dict()


def test_read_once_and_again_when_the_file_changes(coco, caplog):
    register_builtin(NAME)
    first = DatasetCatalog.get(NAME)
    register_builtin(NAME)
    assert DatasetCatalog.get(NAME) is first
    data = content()
    del data["annotations"][5:]
    os.utime(write(coco, data), (1, 1))
    register_builtin(NAME)
    assert sum(len(r["annotations"]) for r in DatasetCatalog.get(NAME)) == 5


def test_a_set_without_annotations(coco):
    data = content()
    del data["annotations"]
    write(coco, data)
    register_builtin(NAME)
    assert [sorted(r) for r in DatasetCatalog.get(NAME)] == [["file_name", "height", "image_id", "width"]] * 4


def test_minival_files_repeat_ids(coco, tmp_path):
    data = content()
    data["annotations"][0]["id"] = data["annotations"][1]["id"]
    path = tmp_path / "instances_minival2014.json"
    path.write_text(json.dumps(data))
    checker = OfficialChecker(path, coco / "val2017", read_coco(path))
    assert len(checker.run("none").annotations) == 24 and not checker.problems


@pytest.mark.slow
def test_the_environment_names_the_folder(coco, tmp_path):
    """In a process of its own, as Detectron2 looks at DETECTRON2_DATASETS when it is imported."""
    script = f"from itpn_d2.data import register_builtin; register_builtin({NAME!r}); " + (
        f"from detectron2.data import DatasetCatalog as C; print(len(C.get({NAME!r})))"
    )
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.split()[-1:] == ["4"], done.stderr


def test_detectron2s_reader_is_the_one_compared_with(coco):
    path = coco / "annotations" / "instances_val2017.json"
    assert list(comparable(load_coco_json(str(path), str(coco / "val2017"), NAME))) == both(NAME)[1]
