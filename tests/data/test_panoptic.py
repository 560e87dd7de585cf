"""COCO panoptic data of one's own: each kind of bad record, and the training sample."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T

from itpn_d2.data import DatasetError, PanopticMapper, check_panoptic, register_panoptic
from itpn_d2.data.catalogs import dataset_facts

CATEGORIES = [
    {"id": 30, "name": "grass", "isthing": 0},
    {"id": 10, "name": "cat", "isthing": 1},
    {"id": 20, "name": "sky", "isthing": 0},
    {"id": 40, "name": "dog", "isthing": 1},
]


def ids():
    """24x20: sky above grass, a dog, a crowd of cats, and one row of nothing. One id needs two bytes."""
    found = np.full((20, 24), 1, np.int32)
    found[10:] = 700
    found[4:14, 2:10] = 3
    found[4:14, 12:20] = 4
    found[19] = 0
    return found


def write_png(path, found):
    cv2.imwrite(str(path), np.stack([found >> s & 255 for s in (16, 8, 0)], -1).astype(np.uint8))


@pytest.fixture
def made(tmp_path):
    segments = [
        {"id": 1, "category_id": 20, "iscrowd": 0},
        {"id": 700, "category_id": 30, "iscrowd": 0},
        {"id": 3, "category_id": 40, "iscrowd": 0},
        {"id": 4, "category_id": 10, "iscrowd": 1},
    ]
    data = {"images": [], "annotations": [], "categories": copy.deepcopy(CATEGORIES)}
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.jpg"), np.full((20, 24, 3), 90, np.uint8))
        write_png(tmp_path / "labels" / f"{number}.png", ids())
        data["images"].append({"id": number, "file_name": f"{number}.jpg", "width": 24, "height": 20})
        data["annotations"].append(
            {"image_id": number, "file_name": f"{number}.png", "segments_info": copy.deepcopy(segments)}
        )
    return tmp_path, data


def check(made, **options):
    folder, data = made
    (folder / "p.json").write_text(json.dumps(data))
    return check_panoptic(folder / "p.json", folder / "images", folder / "labels", **options)


def register(made, name, **options):
    folder, data = made
    (folder / "p.json").write_text(json.dumps(data))
    return register_panoptic(
        name, str(folder / "p.json"), str(folder / "images"), str(folder / "labels"), **options
    )


def test_a_good_set(made):
    assert check(made)[1] == []
    name = register(made, "panoptic_good")
    assert dataset_facts(name) == {
        "num_classes": 2,
        "class_names": ["cat", "dog"],
        "num_semantic_classes": 3,
        "semantic_class_names": ["things", "sky", "grass"],
    }
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == ["things", "sky", "grass"]
    assert metadata.thing_dataset_id_to_contiguous_id == {10: 0, 40: 1}
    assert metadata.stuff_dataset_id_to_contiguous_id == {20: 1, 30: 2}


def test_the_sample(made):
    record = DatasetCatalog.get(register(made, "panoptic_sample"))[0]
    sample = PanopticMapper([])(record)
    found, semantic, truth = sample["instances"], sample["sem_seg"].numpy(), ids()
    assert found.gt_classes.tolist() == [1]  # the dog; the crowd of cats is no instance
    assert (found.gt_masks.tensor[0].numpy() == (truth == 3)).all()
    assert found.gt_boxes.tensor.tolist() == [[2, 4, 10, 14]]
    expected = np.select([truth == 1, truth == 700, truth == 0], [1, 2, 255], 0)
    assert (semantic == expected).all()


def test_the_sample_mirrored_and_halved(made):
    record = DatasetCatalog.get(register(made, "panoptic_mirror"))[0]
    sample = PanopticMapper([T.RandomFlip(prob=1.0), T.Resize((10, 12))])(record)
    small = ids()[::2, ::-2]
    mask = sample["instances"].gt_masks.tensor[0].numpy()
    assert mask.shape == (10, 12) and np.abs(mask.astype(int) - (small == 3)).mean() < 0.15
    assert set(np.unique(sample["sem_seg"])) <= {0, 1, 2, 255}


def test_no_thing_left_after_a_crop(made):
    record = DatasetCatalog.get(register(made, "panoptic_crop"))[0]
    sample = PanopticMapper([T.CropTransform(20, 0, 4, 20)])(record)
    assert len(sample["instances"]) == 0 and sample["instances"].gt_boxes.tensor.shape == (0, 4)
    assert torch.is_tensor(sample["instances"].gt_masks.tensor)


def first(**fields):
    return lambda d, _: d["annotations"][0].update(fields)


def segment(**fields):
    return lambda d, _: d["annotations"][0]["segments_info"][0].update(fields)


BAD = {
    "missing PNG": (first(file_name="no.png"), "no.png"),
    "missing key": (lambda d, _: d["annotations"][0].pop("segments_info"), "segments_info"),
    "duplicate image_id": (first(image_id=2), "image_id 2 is used twice"),
    "unknown image": (first(image_id=99), "image_id 99"),
    "missing image": (lambda d, _: d["images"][0].update(file_name="no.jpg"), "no.jpg"),
    "unknown category": (segment(category_id=5), "category_id 5"),
    "duplicate segment": (segment(id=3), "id 3 is used twice"),
    "segment without pixels": (segment(id=9), "segment 9 is in the json only"),
    "undeclared segment": (
        lambda d, _: d["annotations"][0]["segments_info"].pop(),
        "segment 4 is in the PNG only",
    ),
    "bad segments_info": (first(segments_info=[{"id": 1}]), "category_id"),
    "wrong PNG size": (lambda d, f: write_png(f / "labels/1.png", ids().T), "20x24"),
    "broken PNG": (lambda d, f: cv2.imwrite(str(f / "labels/1.png"), np.ones((20, 24), np.uint8)), "RGB"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_record_is_named_and_can_be_left_out(made, kind):
    change, words = BAD[kind]
    change(made[1], made[0])
    _, problems, _ = check(made)
    assert kind in {p.kind for p in problems}
    assert any(words in f"{p.where}: {p.why}" for p in problems if p.kind == kind)
    with pytest.raises(DatasetError, match="--skip-bad-records"):
        register(made, f"refused {kind}")
    kept = DatasetCatalog.get(register(made, f"kept {kind}", skip_bad_records=True))
    assert len(kept) >= 1
    cleaned = json.loads(Path(MetadataCatalog.get(f"kept {kind}").panoptic_json).read_text())
    assert [a["image_id"] for a in cleaned["annotations"]] == [r["image_id"] for r in kept]


def test_isthing_is_needed(made):
    del made[1]["categories"][0]["isthing"]
    _, problems, _ = check(made)
    assert "isthing missing" in {p.kind for p in problems}


def test_a_json_of_instances(made):
    made[1]["annotations"] = [{"id": 1, "image_id": 1, "category_id": 10, "bbox": [0, 0, 5, 5]}]
    with pytest.raises(DatasetError, match="mask_rcnn"):
        check(made)


def test_things_or_stuff_alone(made):
    for category in made[1]["categories"]:
        category["isthing"] = 0
    with pytest.raises(DatasetError, match="no usable thing"):
        register(made, "panoptic_stuff")


def test_images_of_one_name(made):
    folder, data = made
    (folder / "images" / "deep").mkdir()
    cv2.imwrite(str(folder / "images" / "deep" / "1.jpg"), np.full((20, 24, 3), 90, np.uint8))
    data["images"][1]["file_name"] = "deep/1.jpg"
    with pytest.raises(DatasetError, match="the same name"):
        register(made, "panoptic_twins")


def test_paths(made):
    with pytest.raises(DatasetError, match=r"dataset\.val\.labels=PATH"):
        folder = made[0]
        (folder / "p.json").write_text("{}")
        register_panoptic("panoptic_val", str(folder / "p.json"), str(folder / "images"), "")
    with pytest.raises(DatasetError, match="none.json: no such file"):
        register_panoptic("panoptic_val", "none.json", str(made[0]), str(made[0]))


TAKEN = {
    "image id/text": lambda d, _: [a.update(image_id=str(a["image_id"])) for a in d["annotations"]],
    "image id/names": lambda d, _: (
        [i.update(id=f"n{i['id']}") for i in d["images"]],
        [a.update(image_id=f"n{a['image_id']}") for a in d["annotations"]],
    ),
    "category id/text": lambda d, _: [c.update(id=str(c["id"])) for c in d["categories"]],
    "isthing/text": lambda d, _: [c.update(isthing=str(c["isthing"])) for c in d["categories"]],
    "isthing/truth": lambda d, _: [c.update(isthing=bool(c["isthing"])) for c in d["categories"]],
    "segment id/text": segment(id="1"),
    "segment id/real": segment(id=1.0),
    "crowd/null": segment(iscrowd=None),
    "crowd/absent": lambda d, _: d["annotations"][0]["segments_info"][0].pop("iscrowd"),
    "size/text": lambda d, _: d["images"][0].update(width="24", height="20"),
    "size/absent": lambda d, _: d["images"][0].pop("width"),
    "file/backslash": first(file_name="labels\\\\1.png"),
    "name/reference": lambda d, _: d["categories"][0].update(name="${x}"),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_odd_values_are_taken_as_they_are_meant(made, kind):
    TAKEN[kind](made[1], made[0])
    records = DatasetCatalog.get(register(made, f"taken {kind}"))
    assert len(records) == 2 and all(len(r["segments"]) == 4 for r in records)
    own = json.loads(Path(MetadataCatalog.get(f"taken {kind}").panoptic_json).read_text())
    assert [a["image_id"] for a in own["annotations"]] == [r["image_id"] for r in records] == [1, 2]
    assert {s["category_id"] for a in own["annotations"] for s in a["segments_info"]} == {10, 20, 30, 40}
    assert len(PanopticMapper([])(records[0])["instances"]) == 1


REFUSED = {
    "segment id/list": (segment(id=[1]), "segment id is"),
    "segment id/zero": (segment(id=0), "not a colour"),
    "segment id/huge": (segment(id=256**3), "not a colour"),
    "segment id/word": (segment(id="x"), "segment id is 'x'"),
    "category id/list": (segment(category_id=[20]), "category_id is"),
    "category id/object": (segment(category_id={"a": 1}), "category_id is"),
    "crowd/word": (segment(iscrowd="x"), "iscrowd is 'x'"),
    "crowd/list": (segment(iscrowd=[]), "iscrowd is"),
    "file/number": (first(file_name=1), "file_name is 1"),
    "file/list": (first(file_name=["1.png"]), "file_name is"),
    "image/file number": (lambda d, _: d["images"][0].update(file_name=1), "file_name is 1"),
    "image id/list": (first(image_id=[1]), "image_id is"),
    "segments/object": (first(segments_info={"id": 1}), "segments_info is"),
    "segments/numbers": (first(segments_info=[1, 2]), "not an object"),
    "isthing/two": (lambda d, _: d["categories"][0].update(isthing=2), "isthing is 2"),
    "category/list": (lambda d, _: d["categories"].append([1]), "no object"),
    "annotation/null": (lambda d, _: d["annotations"].append(None), "no object"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_odd_values_are_refused_by_name(made, kind):
    change, words = REFUSED[kind]
    change(made[1], made[0])
    with pytest.raises(DatasetError, match=words):
        register(made, f"refused {kind}")
