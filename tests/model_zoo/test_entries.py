"""What the entries say is what the configs are; MODEL_ZOO.md is what the entries say."""

import dataclasses
import re
from pathlib import Path

import pytest

from itpn_d2 import model_zoo
from itpn_d2.engine import load_config
from itpn_d2.model_zoo import Weights, ZooError
from itpn_d2.model_zoo.entries import ENTRIES, WEIGHTS, dino, fast_itpn, fastmim, heads, itpn, nano
from itpn_d2.model_zoo.entry import TASKS
from itpn_d2.model_zoo.table import COMMAND, document
from itpn_d2.normalisation import IMAGENET

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "COCO-InstanceSegmentation": "instance_segmentation",
    "COCO-Detection": "detection",
    "COCO-PanopticSegmentation": "panoptic_segmentation",
    "COCO-Keypoints": "keypoints",
    "ADE20K-SemanticSegmentation": "semantic_segmentation",
    "ImageNet-Classification": "classification",
    "Pretrain": "pretraining",
}


def task_of(cfg):
    """By what the model predicts."""
    if "decoder" in cfg.model:
        task = cfg.model.get("task")
        return "detection" if task is None else f"{task}_segmentation"
    heads = cfg.model.get("roi_heads", {})
    semantic, boxes = "sem_seg_head" in cfg.model, "proposal_generator" in cfg.model or "head" in cfg.model
    if semantic:
        return "panoptic_segmentation" if boxes else "semantic_segmentation"
    if heads.get("keypoint_head") is not None:
        return "keypoints"
    if heads.get("mask_head") is not None:
        return "instance_segmentation"
    return "detection" if boxes else "classification"


def test_every_config_has_one_entry():
    paths = (ROOT / "configs").rglob("*.py")
    configs = sorted(p.relative_to(ROOT / "configs").as_posix() for p in paths if "common" not in p.parts)
    declared = [e.config for family in (fast_itpn, itpn, heads, dino, fastmim, nano) for e in family.ENTRIES]
    assert sorted(declared) == configs


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_says_what_its_config_is(name):
    entry = ENTRIES[name]
    cfg = load_config(str(ROOT / "configs" / entry.config))
    folder = name.split("/")[0]
    assert entry.task == FOLDERS.get(folder, entry.task)
    mean, std = (cfg.model.get(key) for key in ("pixel_mean", "pixel_std"))
    if mean is None:  # a pre-training's default
        assert entry.task == "pretraining" and entry.statistics == IMAGENET
    else:
        assert (tuple(mean), tuple(std)) == (entry.statistics.mean, entry.statistics.std)
    if entry.task == "pretraining":
        epochs = re.search(r"(\d+) epochs", entry.pretraining)
        assert epochs is None or int(epochs[1]) == cfg.train.epochs
        assert ("HOG" in entry.pretraining) == ("fastmim" in name)
        assert ("CLIP" in entry.pretraining) == ("teacher" in cfg.model)
    else:
        masks = cfg.model.get("roi_heads", {}).get("mask_head") is not None or "task" in cfg.model
        assert entry.task == task_of(cfg)
        assert all("mask" not in m.name or masks for m in entry.metrics)


def test_numbers_say_where_they_come_from():
    for entry in ENTRIES.values():
        for metric in entry.metrics:
            assert metric.source and metric.dataset and 0 < metric.value < 100
            if metric.origin == "measured here":
                text = (ROOT / metric.source).read_text(encoding="utf-8")
                assert re.search(rf"\b{metric.value:.1f}\b", text), f"{metric} is not in {metric.source}"


def test_entries_are_frozen():
    entry = model_zoo.get_entry("fast_itpn_tiny_224")
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.note = "better"
    assert hash(entry) == hash(model_zoo.get_entry("ImageNet-Classification/fast_itpn_tiny_224.py"))


def test_names_of_files_are_unique():
    found = set(WEIGHTS.values())
    assert found >= {w for e in ENTRIES.values() for w in (e.weights, e.start) if w}
    assert sorted(WEIGHTS) == sorted(name for w in found for name in (w.file, *w.aliases))
    assert len({w.url for w in found if w.url}) == sum(w.url is not None for w in found) == 20
    assert all(w.licence and w.publisher for w in found)


@pytest.mark.parametrize(
    "wrong",
    [{"file": "../x.pth"}, {"file": "a/b"}, {"sha256": "abc"}, {"url": "file:///x"}, {"aliases": ("",)}],
)
def test_weights_that_can_not_be(wrong):
    with pytest.raises(ValueError):
        Weights(**{"file": "x.pth", "publisher": "a test", "licence": "none", **wrong})


def test_model_zoo_md_is_what_the_command_writes():
    assert (ROOT / "MODEL_ZOO.md").read_text(encoding="utf-8") == document(), f"run {COMMAND}"


def test_links_of_model_zoo_md():
    links = re.findall(r"\]\((configs/[^)]+)\)", document())
    assert len(links) == len(ENTRIES) and all((ROOT / link).is_file() for link in links)


def test_list():
    everything = model_zoo.list()
    assert everything == sorted(ENTRIES)
    assert sorted(n for task in TASKS for n in model_zoo.list(task=task)) == everything
    assert sorted(model_zoo.list(pretrained=True) + model_zoo.list(pretrained=False)) == everything
    assert "Pretrain/distillation_fast_itpn_base" in model_zoo.list(task="pretraining", pretrained=True)
    with pytest.raises(ZooError, match="choose instance_segmentation"):
        model_zoo.list(task="tracking")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mask_rcnn_fast_itpn_nano", "several models.*Custom/.*Quickstart/|several.*Quickstart/.*Custom/"),
        ("mask_rcnn_fast_itpn_huge_1x", "did you mean mask_rcnn_fast_itpn"),
        ("zzz", "model_zoo list"),
    ],
)
def test_no_such_entry(name, words):
    with pytest.raises(ZooError, match=words):
        model_zoo.get_entry(name)
