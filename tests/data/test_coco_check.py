"""Each kind of bad input is found, named and, when asked, left out."""

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from omegaconf import OmegaConf

from itpn_d2.data import (
    DatasetError,
    TrainMapper,
    build_train_loader,
    check_coco,
    has_masks,
    prepare_datasets,
    register_builtin,
    register_coco,
)

SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]


def rle(height=40, width=50):
    mask = np.zeros((height, width), np.uint8)
    mask[3:9, 4:14] = 1
    code = mask_util.encode(np.asfortranarray(mask))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def good():
    box = {"bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 50, "height": 40} for i in (1, 2, 3)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, **box, "segmentation": [SQUARE]},
            {"id": 2, "image_id": 2, "category_id": 7, **box, "segmentation": rle()},
            {"id": 3, "image_id": 3, "category_id": 7, **box},
        ],
        "categories": [{"id": 7, "name": "bolt"}, {"id": 3, "name": "nut"}],
    }


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in (1, 2, 3):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((40, 50, 3), 90, np.uint8))
    return folder


def write(tmp_path, data):
    path = tmp_path / "data.json"
    path.write_text(json.dumps(data))
    return path


def annotation(**fields):
    return lambda d: d["annotations"][0].update(fields)


BAD = {
    "missing image": (lambda d: d["images"][0].update(file_name="no.png"), "no.png"),
    "wrong image size": (lambda d: d["images"][0].update(width=51), "51x40"),
    "box outside image": (annotation(bbox=[45, 2, 10, 10]), "by 5 px"),
    "bad box": (annotation(bbox=[2, 2, 0, 10]), "no area"),
    "polygon under 3 points": (annotation(segmentation=[[1, 2, 3, 4]]), "polygon"),
    "bad polygon": (annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "pairs"),
    "unknown category": (annotation(category_id=9), "category_id 9"),
    "unknown image": (annotation(image_id=99), "image_id 99"),
    "duplicate id": (
        lambda d: d["annotations"].append(copy.deepcopy(d["annotations"][1])),
        "id 2 is used twice",
    ),
    "RLE of the wrong size": (annotation(segmentation=rle(50, 40)), r"\[50, 40\]"),
    "bad segmentation": (annotation(segmentation="abc"), "neither"),
    "missing key": (lambda d: d["annotations"][0].pop("bbox"), "no bbox"),
}


def test_good_data_passes(tmp_path, images):
    checked = check_coco(write(tmp_path, good()), images)
    assert not checked.problems and len(checked.coco.annotations) == 3


@pytest.mark.parametrize("kind", BAD)
def test_bad_record_is_named(tmp_path, images, kind):
    data = good()
    spoil, words = BAD[kind]
    spoil(data)
    path = write(tmp_path, data)
    with pytest.raises(DatasetError, match=words) as caught:
        check_coco(path, images)
    assert str(path) in str(caught.value) and "--skip-bad-records" in str(caught.value)
    checked = check_coco(path, images, skip_bad_records=True)
    assert list(checked.counts()) == [kind]
    assert len(checked.coco.annotations) == (3 if kind == "duplicate id" else 2)


@pytest.mark.parametrize("content", [b"not an image", b""])
def test_broken_image(tmp_path, images, content):
    (images / "2.png").write_bytes(content)
    with pytest.raises(DatasetError, match=r"2\.png"):
        check_coco(write(tmp_path, good()), images)
    checked = check_coco(write(tmp_path, good()), images, skip_bad_records=True)
    assert list(checked.counts()) == ["broken image"] and len(checked.coco.pictures) == 2


def test_truncated_image_is_seen_by_decoding_only(tmp_path, images):
    rng = np.random.default_rng(0)
    cv2.imwrite(str(images / "2.png"), rng.integers(0, 255, (40, 50, 3), np.uint8))
    whole = (images / "2.png").read_bytes()
    (images / "2.png").write_bytes(whole[: len(whole) // 2])
    path = write(tmp_path, good())
    assert not check_coco(path, images, verify_images="header").problems
    with pytest.raises(DatasetError, match="broken image"):
        check_coco(path, images)


def test_a_pixel_of_rounding_is_tolerated(tmp_path, images):
    data = good()
    data["annotations"][0]["bbox"] = [40.5, 2, 10, 10]
    assert not check_coco(write(tmp_path, data), images).problems


def test_all_problems_are_reported_at_once(tmp_path, images):
    data = good()
    for kind in ("unknown category", "missing image"):
        BAD[kind][0](data)
    data["annotations"][1]["bbox"] = [0, 0, -1, 4]
    with pytest.raises(DatasetError, match=r"(?s)3 bad record"):
        check_coco(write(tmp_path, data), images)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a json"),
        ("[]", "object"),
        ("{}", "images"),
        (json.dumps({"images": [], "annotations": [], "categories": []}), "empty"),
        (json.dumps({**good(), "annotations": {}}), "'annotations' is missing or not a list"),
        (json.dumps({**good(), "categories": []}), "'categories' is empty"),
        ('{"images": [], "images": [1]}', "'images' twice"),
        ("[" * 100_000, "thousands of levels"),
    ],
)
def test_no_coco_file(tmp_path, images, text, words):
    path = tmp_path / "data.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=words):
        check_coco(path, images)


def test_registration_maps_ids_and_replaces(tmp_path, images, monkeypatch):
    monkeypatch.setenv("ITPN_D2_CACHE", str(tmp_path / "cache"))
    path = write(tmp_path, good())
    name = register_coco("check_train", str(path), str(images))
    assert MetadataCatalog.get(name).thing_classes == ["nut", "bolt"]  # by id
    assert [r["annotations"][0]["category_id"] for r in DatasetCatalog.get(name)] == [0, 1, 1]
    assert not has_masks(name)  # the third has none
    data = good()
    BAD["unknown category"][0](data)
    path = write(tmp_path, data)
    register_coco(name, str(path), str(images), skip_bad_records=True)
    cleaned = json.loads(Path(MetadataCatalog.get(name).json_file).read_text())
    assert len(cleaned["annotations"]) == 2 and "cache" in MetadataCatalog.get(name).json_file


def test_some_masks_missing(tmp_path, images):
    """Such data train and evaluate boxes; a model with masks is refused before it starts."""
    data = good()
    name = register_coco("partly_masked", str(write(tmp_path, data)), str(images))
    assert not has_masks(name)
    view = [T.ResizeShortestEdge(64, 64)]
    build_train_loader(name, TrainMapper(view, use_instance_mask=False), 1)
    with pytest.raises(DatasetError, match=r"1 annotations have no segmentation.*faster_rcnn config"):
        build_train_loader(name, TrainMapper(view), 1)
    data["annotations"].pop()
    register_coco(name, str(write(tmp_path, data)), str(images))
    assert has_masks(name)
    build_train_loader(name, TrainMapper(view), 1)


def test_missing_paths_say_which_override():
    with pytest.raises(DatasetError, match="dataset.val.json="):
        register_coco("custom_val", "", "")
    with pytest.raises(DatasetError, match="not registered"):
        register_builtin("coco_2099_train")


def test_prepare_fills_in_and_compares_classes(tmp_path, images):
    path = write(tmp_path, good())
    call = {"_target_": "itpn_d2.data.register_coco", "json": str(path), "images": str(images)}
    cfg = OmegaConf.create(
        {
            "train": {**call, "name": "p_train"},
            "val": {**call, "name": "p_val"},
            "num_classes": None,
            "class_names": None,
        }
    )
    prepare_datasets(cfg)
    assert cfg.num_classes == 2 and list(cfg.class_names) == ["nut", "bolt"]
    data = good()
    data["categories"][0]["name"] = "screw"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(data))
    cfg.val.json = str(other)
    with pytest.raises(DatasetError, match="screw"):
        prepare_datasets(cfg)
