"""python -m itpn_d2.model_zoo reproduce: detectors on a folder laid out as COCO's"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.structures import Boxes, Instances
from PIL import Image

from itpn_d2 import model_zoo
from itpn_d2.checkpoint import atomic_save
from itpn_d2.download import sha256_of
from itpn_d2.meta_arch import GeneralizedRCNN
from itpn_d2.model_zoo import Metric, Weights
from itpn_d2.model_zoo.__main__ import main
from itpn_d2.model_zoo.entries import ENTRIES, WEIGHTS

NAME = "COCO-InstanceSegmentation/mask_rcnn_fast_itpn_tiny_1x"
SMALL = [
    "model.backbone.channels=[8,16,32]",
    "model.backbone.depths=[1,1,1]",
    "model.backbone.num_heads=2",
    "model.proposal_generator.post_nms_topk=[20,20]",
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
    "model.roi_heads.box_predictor.test_topk_per_image=5",
    "dataloader.image.test_short_side=64",
    "dataloader.test.num_workers=0",
    "train.amp.dtype=fp32",
]


@pytest.fixture
def coco(tmp_path):
    """Two images with an object each, of COCO's 80 classes, whose ids have gaps."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in (139, 285):
        name = f"{number:012}.jpg"
        Image.fromarray(rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)).save(root / "val2017" / name)
        images.append({"id": number, "file_name": name, "width": 80, "height": 64})
        box = {"bbox": [8, 8, 30, 40], "area": 1200, "segmentation": [[8, 8, 38, 8, 38, 48, 8, 48]]}
        annotations.append({"id": number, "image_id": number, "category_id": 90, "iscrowd": 0, **box})
    categories = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def published(tmp_path, site, monkeypatch):
    """The entry's detector, much smaller, at an address of this machine."""
    torch.manual_seed(0)
    state = instantiate(model_zoo.get_config(NAME, overrides=SMALL).model).state_dict()
    file = tmp_path / "run" / "detector.pth"
    atomic_save({"model": state}, file)
    site.files["/detector.pth"] = file.read_bytes()
    address = f"{site.address}/detector.pth"
    weights = Weights("detector.pth", "a test", "none", address, sha256_of(file), holds="detector")
    monkeypatch.setitem(WEIGHTS, "detector.pth", weights)
    quoted = tuple(
        Metric(name, value, "COCO val2017", "quoted", "a test")
        for name, value in (("box AP", 51.5), ("mask AP", 45.5))
    )
    monkeypatch.setitem(ENTRIES, NAME, replace(ENTRIES[NAME], weights=weights, metrics=quoted))
    return file


def run(root, out, *more):
    return main(["reproduce", NAME, "--data", str(root), "--output", str(out), *more, "--set", *SMALL])


def test_a_published_detector_beside_its_quoted_numbers(published, coco, site, tmp_path, capsys):
    assert run(coco, tmp_path / "out") == 0
    assert ("GET", "/detector.pth", None) in site.requests
    said = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    for name, key, quoted in (("box AP", "bbox/AP", 51.5), ("mask AP", "segm/AP", 45.5)):
        row = re.search(rf"^{name} +([\d.]+) +{quoted:.2f} +([-+][\d.]+)$", said, re.MULTILINE)
        assert row and float(row[1]) == pytest.approx(results[key], abs=0.01)
        assert float(row[2]) == pytest.approx(results[key] - quoted, abs=0.01)
    assert said.rstrip().endswith("quoted: COCO val2017, a test")


def test_perfect_detections_measure_as_such(published, coco, tmp_path, monkeypatch, capsys):
    """What is measured are COCO's numbers, with the classes where COCO has them."""

    def perfect(self, inputs, *args, **kwargs):
        found = Instances((64, 80))
        found.pred_boxes = Boxes(torch.tensor([[8.0, 8.0, 38.0, 48.0]]))
        found.scores, found.pred_classes = torch.ones(1), torch.tensor([79])
        found.pred_masks = torch.zeros(1, 64, 80, dtype=torch.bool)
        found.pred_masks[:, 8:48, 8:38] = True
        return [{"instances": found} for _ in inputs]

    monkeypatch.setattr(GeneralizedRCNN, "inference", perfect)
    assert run(coco, tmp_path / "out") == 0
    said = capsys.readouterr().out
    for name, apart in (("box AP", "+48.50"), ("mask AP", "+54.50")):
        assert re.search(rf"^{name} +100.00 .*{re.escape(apart)}$", said, re.MULTILINE), said


def test_without_a_quoted_number(published, coco, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ENTRIES, NAME, replace(ENTRIES[NAME], weights=None, metrics=()))
    assert run(coco, tmp_path / "out", "--weights", str(published)) == 0
    said = capsys.readouterr().out
    assert re.search(r"^box AP +[\d.]+ +none$", said, re.MULTILINE)
    assert f"there is no quoted number to compare {NAME} with" in said


def test_folders_that_lack_a_part(published, coco, tmp_path, refused):
    (coco / "val2017").rename(coco / "val")
    with refused("coco: has no val2017; give the folder of COCO 2017"):
        run(coco, tmp_path / "out")
