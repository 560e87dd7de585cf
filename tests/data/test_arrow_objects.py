"""Objects and label images of Hugging Face's ``datasets``: the records are those of a json with the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from itpn_d2.data import (
    DatasetError,
    SemanticMapper,
    TestMapper,
    TrainMapper,
    build_test_loader,
    build_train_loader,
    register_coco,
    register_hf,
    register_semantic,
)
from itpn_d2.data.labels import read_labels
from tests.data.arrow_sets import COUNT, HEIGHT, WIDTH, features, made, pictures, rectangle, rows
from tests.data.coco_sets import perfect

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def saved(tmp_path):
    made(datasets).save_to_disk(tmp_path / "saved", num_shards=2)
    return str(tmp_path / "saved")


def as_coco(tmp_path):
    """The same set as a json and a folder."""
    data = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in enumerate(("bolt", "nut"))],
    }
    (tmp_path / "images").mkdir()
    for number, (row, array) in enumerate(zip(rows(), pictures(), strict=True)):
        Image.fromarray(array).save(tmp_path / "images" / f"{number}.png")
        data["images"].append({"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT})
        objects = row["objects"]
        for k in range(2):
            fields = {"bbox": objects["bbox"][k], "segmentation": objects["segmentation"][k]}
            fields |= {"category_id": objects["category"][k], "area": objects["area"][k], "image_id": number}
            data["annotations"].append({"id": len(data["annotations"]) + 1, "iscrowd": 0, **fields})
    (tmp_path / "data.json").write_text(json.dumps(data))
    return str(tmp_path / "data.json"), str(tmp_path / "images")


def without_files(records):
    return [{k: v for k, v in r.items() if k != "file_name"} for r in records]


def test_records_are_those_of_a_json(saved, tmp_path):
    found = DatasetCatalog.get(register_coco("arrow_train", "", saved))
    expected = DatasetCatalog.get(register_coco("json_train", *as_coco(tmp_path)))
    assert len(found) == COUNT and without_files(found) == without_files(expected)
    assert MetadataCatalog.get("arrow_train").thing_classes == ["bolt", "nut"]
    own = [
        json.loads(Path(MetadataCatalog.get(n).json_file).read_text()) for n in ("arrow_train", "json_train")
    ]
    assert own[0]["annotations"] == own[1]["annotations"]


def test_training_and_evaluation(saved):
    register_hf("arrow_val", saved)
    batch = next(iter(build_train_loader("arrow_val", TrainMapper([]), 4, num_workers=1)))
    for sample in batch:
        number = sample["image_id"]
        assert (sample["image"].permute(1, 2, 0).numpy() == pictures()[number]).all()
        assert len(sample["instances"]) == 2
    assert perfect("arrow_val")["segm"]["AP"] == pytest.approx(100)


def test_label_images(saved):
    name = register_semantic("arrow_semantic", saved, "", ["ground", "sky"])
    records = DatasetCatalog.get(name)
    assert len(records) == COUNT and all((r["width"], r["height"]) == (WIDTH, HEIGHT) for r in records)
    expected = np.zeros((HEIGHT, WIDTH))
    expected[: HEIGHT // 2] = 1
    assert (read_labels(records[3]) == expected).all()
    loader = build_train_loader(name, SemanticMapper([]), 2, filter_empty=False, aspect_ratio_grouping=False)
    assert (next(iter(loader))[0]["sem_seg"].numpy() == expected).all()
    with pytest.raises(DatasetError, match="number 1 is not a class"):
        register_semantic("arrow_semantic", saved, "", ["ground"])


def change(**objects):
    given = rows()
    given[2]["objects"].update(objects)
    return given


def stored(tmp_path, given, kinds=None):
    kinds = features(datasets) if kinds is None else kinds
    datasets.Dataset.from_list(given, features=kinds).save_to_disk(tmp_path / "other")
    return str(tmp_path / "other")


def test_bad_objects_are_refused_by_name_or_left_out(tmp_path):
    boxes = [[2.0, 3.0, 200.0, 12.0], [40.0, 20.0, 0.0, 15.0]]
    place = stored(tmp_path, change(bbox=boxes))
    with pytest.raises(
        DatasetError, match=r"(?s)2 bad record.*rows\[2\]\['objects'\]\[0\] on .*#\d+\+\d+: bbox"
    ) as e:
        register_hf("arrow_train", place)
    assert (
        str(e.value).startswith(place)
        and "extends beyond the 72x56 image" in str(e.value)
        and "no area" in str(e.value)
    )
    found = DatasetCatalog.get(register_hf("arrow_train", place, skip_bad_records=True))
    assert [len(r["annotations"]) for r in found] == [2, 2, 0] + [2] * (COUNT - 3)


@pytest.mark.parametrize(
    "objects, words",
    [
        ({"category": [0, -1]}, "category_id -1 is not declared"),
        ({"category": [0, None]}, "no category_id"),
        ({"segmentation": [rectangle(2, 3, 20, 12), [[1.0, 2.0]]]}, "polygon under 3 points"),
    ],
)
def test_other_bad_objects(tmp_path, objects, words):
    with pytest.raises(DatasetError, match=words):
        register_hf("arrow_train", stored(tmp_path, change(**objects)))


def test_broken_pictures_and_wrong_sizes(tmp_path):
    given = rows()
    given[4]["image"]["bytes"] = given[4]["image"]["bytes"][:200]
    given[5]["image"] = None
    with pytest.raises(
        DatasetError, match=r"(?s)2 bad record.*images\[5\]: no file_name.*image id 4 .*can't be read"
    ):
        register_hf("arrow_train", stored(tmp_path, given))


def objects_as(kind, fields):
    return datasets.Features({"image": datasets.Image(), "objects": kind(fields)})


def test_a_list_of_objects_corners_and_names_as_texts(tmp_path):
    box = datasets.Sequence(datasets.Value("float32"))
    kinds = objects_as(datasets.List, {"box": box, "label": datasets.Value("string")})
    given = [
        {"image": row["image"], "objects": [{"box": [4, 5, 24, 20], "label": name} for name in ("b", "a")]}
        for row in rows()
    ]
    place = stored(tmp_path, given, kinds)
    found = DatasetCatalog.get(register_hf("arrow_train", place, box="xyxy"))
    assert found[0]["annotations"][0]["bbox"] == [4, 5, 20, 15]
    assert [a["category_id"] for a in found[0]["annotations"]] == [1, 0]
    assert MetadataCatalog.get("arrow_train").thing_classes == ["a", "b"]
    with pytest.raises(DatasetError, match="choose xywh or xyxy"):
        register_hf("arrow_train", place, box="xywha")
    given[3]["objects"][1]["box"] = [4, 5, 2, 20]
    place = stored(tmp_path, given, kinds)
    with pytest.raises(DatasetError, match="its corners are x1, y1, x2, y2"):
        register_hf("arrow_train", place, box="xyxy")


def test_names_of_numbers_have_to_be_given(tmp_path):
    box = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))
    numbers = datasets.Sequence(datasets.Value("int64"))
    kinds = datasets.Features({"image": datasets.Image(), "boxes": {"bbox": box, "category_id": numbers}})
    given = [
        {"image": r["image"], "boxes": {"bbox": r["objects"]["bbox"], "category_id": [1, 0]}} for r in rows()
    ]
    place = stored(tmp_path, given, kinds)
    with pytest.raises(DatasetError, match="no column 'objects'; it has image, boxes"):
        register_hf("arrow_train", place)
    with pytest.raises(DatasetError, match="the names of its categories are unknown; set classes"):
        register_hf("arrow_train", place, objects="boxes")
    (tmp_path / "names.txt").write_text("bolt\nnut\n")
    for classes in (["bolt", "nut"], str(tmp_path / "names.txt")):
        found = DatasetCatalog.get(register_hf("arrow_train", place, objects="boxes", classes=classes))
        assert [a["category_id"] for a in found[0]["annotations"]] == [1, 0]
    given[6]["boxes"]["category_id"] = [1]
    with pytest.raises(DatasetError, match=r"rows\[6\]\['boxes'\]: there are 2 of bbox, 1 of category_id"):
        register_hf("arrow_train", stored(tmp_path, given, kinds), objects="boxes", classes=["bolt", "nut"])


def test_ids_and_sizes_of_the_set_are_taken(tmp_path):
    given = [
        {**row, "image_id": 100 - i, "width": WIDTH, "height": HEIGHT + (i == 3)}
        for i, row in enumerate(rows())
    ]
    number = datasets.Value("int64")
    whole = datasets.Features({**features(datasets), "image_id": number, "width": number, "height": number})
    place = stored(tmp_path, given, whole)
    with pytest.raises(DatasetError, match="image id 97 .*the json says 72x57, but the file is 72x56"):
        register_hf("arrow_train", place)
    found = DatasetCatalog.get(register_hf("arrow_train", place, skip_bad_records=True))
    assert [r["image_id"] for r in found] == [i for i in range(90, 101) if i != 97]


def test_the_test_loader_reads_from_the_file(saved):
    register_hf("arrow_val", saved)
    seen = [r["image_id"] for batch in build_test_loader("arrow_val", TestMapper([])) for r in batch]
    assert seen == list(range(COUNT))
