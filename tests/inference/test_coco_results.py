"""Outputs in COCO's formats, which pycocotools reads back."""

import json

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools import mask as mask_util
from pycocotools.coco import COCO

from itpn_d2.errors import ConfigError
from itpn_d2.inference import Categories, ResultFiles, instance_results, semantic_results

SIZE = (20, 30)
NAMES = {"thing_classes": ["cat", "dog"], "stuff_classes": ["sky", "sea", "sand"]}


def instances(masks=True, keypoints=False):
    found = Instances(SIZE, pred_boxes=Boxes(torch.tensor([[2.0, 3, 12, 9], [0, 0, 30, 20]])))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.25]), torch.tensor([1, 0])
    if masks:
        found.pred_masks = torch.zeros(2, *SIZE, dtype=torch.bool)
        found.pred_masks[0, 3:9, 2:12] = True
    if keypoints:
        found.pred_keypoints = torch.tensor([[[4.5, 5.5, 0.7]], [[1.5, 2.5, 0.1]]])
    return {"instances": found}


def semantic():
    scores = torch.zeros(3, *SIZE)
    scores[0], scores[2, 10:] = 0.5, 0.9
    return {"sem_seg": scores}


def panoptic():
    ids = torch.zeros(SIZE, dtype=torch.int32)
    ids[:10], ids[10:, :15] = 1, 300
    segments = [
        {"id": 1, "isthing": False, "category_id": 2},
        {"id": 300, "isthing": True, "category_id": 1},
    ]
    return {"panoptic_seg": (ids, segments), **semantic(), **instances()}


def test_instances():
    first, second = instance_results(instances(keypoints=True), 7, Categories(Metadata(**NAMES)))
    assert first["bbox"] == [2, 3, 10, 6] and first["category_id"] == 2 and first["image_id"] == 7
    assert first["score"] == pytest.approx(0.9) and second["category_id"] == 1
    expected = np.zeros(SIZE, bool)
    expected[3:9, 2:12] = True
    assert np.array_equal(mask_util.decode(first["segmentation"]), expected)
    assert first["keypoints"] == pytest.approx([4, 5, 0.7])
    json.dumps([first, second])


def test_the_output_stays_as_it_is():
    output = instances(keypoints=True)
    for _ in range(2):
        (first, _) = instance_results(output, 1, Categories(Metadata()))
        assert first["keypoints"] == pytest.approx([4, 5, 0.7])


def test_ids_of_the_dataset():
    metadata = Metadata(**NAMES, thing_dataset_id_to_contiguous_id={17: 0, 40: 1})
    assert [r["category_id"] for r in instance_results(instances(), 1, Categories(metadata))] == [40, 17]
    by_name = Categories(metadata, {"dog": 5, "cat": 6, "tree": 1})
    assert [r["category_id"] for r in instance_results(instances(), 1, by_name)] == [5, 6]
    with pytest.raises(ConfigError, match="no category dog"):
        Categories(metadata, {"cat": 1})
    # nothing is known of the classes: COCO counts from 1
    assert Categories(Metadata()).id(4) == 5


def test_semantic():
    found = semantic_results(semantic(), 3, Categories(Metadata(**NAMES)))
    assert [r["category_id"] for r in found] == [1, 3]
    assert [int(mask_util.area(r["segmentation"])) for r in found] == [300, 300]


def test_classes_of_a_picture():
    found = instance_results({"scores": torch.tensor([0.1, 0.9])}, 2, Categories(Metadata(**NAMES)))
    assert [(r["category_id"], round(r["score"], 3)) for r in found] == [(2, 0.9), (1, 0.1)]


def test_files_that_pycocotools_reads(tmp_path):
    files = ResultFiles(tmp_path, Metadata(**NAMES))
    for name in ("a/x.jpg", "b.jpg"):
        files.add(name, SIZE, instances())
    files.add("none.jpg", SIZE, {"instances": instances()["instances"][:0]})
    written = {path.name for path in files.save()}
    assert written == {"instances.json", "images.json"}
    truth = COCO(str(tmp_path / "images.json"))
    truth.dataset["annotations"] = []
    truth.createIndex()
    found = truth.loadRes(str(tmp_path / "instances.json"))
    assert sorted(found.getImgIds()) == [1, 2, 3] and len(found.getAnnIds(imgIds=[2])) == 2
    assert truth.loadImgs([1])[0] == {"id": 1, "file_name": "a/x.jpg", "height": 20, "width": 30}


def test_ids_of_a_json(tmp_path):
    known = tmp_path / "val.json"
    listed = [{"id": 40, "file_name": "x.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    categories = [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]
    known.write_text(json.dumps({"images": listed, "categories": categories}))
    files = ResultFiles(tmp_path, Metadata(**NAMES), known)
    assert [files.add(n, SIZE, instances()) for n in ("b.jpg", "sub/x.jpg", "new.jpg")] == [9, 40, 41]
    files.save()
    results = json.loads((tmp_path / "instances.json").read_text())
    assert [(r["image_id"], r["category_id"]) for r in results[:2]] == [(9, 8), (9, 3)]
    for text in ("[]", "{}", "no json"):
        known.write_text(text)
        with pytest.raises(ConfigError, match=r"val.json: not a COCO json"):
            ResultFiles(tmp_path, Metadata(), known)


def test_panoptic_files(tmp_path):
    files = ResultFiles(tmp_path, Metadata(**NAMES))
    files.add("x.jpg", SIZE, panoptic())
    assert {path.name for path in files.save()} == {"instances.json", "panoptic.json", "images.json"}
    (found,) = json.loads((tmp_path / "panoptic.json").read_text())["annotations"]
    assert [(s["id"], s["category_id"], s["area"]) for s in found["segments_info"]] == [
        (1, 3, 300),
        (300, 2, 150),
    ]
    picture = np.asarray(Image.open(tmp_path / "panoptic" / found["file_name"])).astype(int)
    ids = picture[..., 0] + 256 * picture[..., 1] + 65536 * picture[..., 2]
    assert np.array_equal(ids, panoptic()["panoptic_seg"][0].numpy())
