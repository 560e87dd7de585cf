"""python -m itpn_d2.model_zoo publish and reproduce"""

import json
import re

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from PIL import Image

from itpn_d2 import Predictor, model_zoo
from itpn_d2.checkpoint import atomic_save, load_state_file
from itpn_d2.download import sha256_of
from itpn_d2.model_zoo import Entry, Metric, Weights
from itpn_d2.model_zoo.__main__ import main
from itpn_d2.model_zoo.entries import ENTRIES, WEIGHTS
from itpn_d2.normalisation import IMAGENET

NAME = "Custom/classifier_fast_itpn_nano"
COLOURS = {"blue": (20, 30, 200), "green": (30, 190, 20), "red": (210, 20, 30)}
SMALL = [
    "--set",
    "model.network.channels=[16,32,64]",
    "model.network.depths=[1,1,1]",
    "model.network.num_heads=2",
    "model.network.pos_grid=[2,2]",
    "dataloader.image.size=32",
    "dataloader.test.num_workers=0",
    "train.amp.dtype=fp32",
]


@pytest.fixture
def classifier(tmp_path):
    """A run's file of three classes."""
    torch.manual_seed(0)
    cfg = model_zoo.get_config(NAME, overrides=[*SMALL[1:], "dataset.num_classes=3"])
    file = tmp_path / "run" / "model_final.pth"
    state = instantiate(cfg.model).state_dict()
    atomic_save({"model": state, "classes": {"names": list(COLOURS)}}, file)
    return file


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "data/val" / name).mkdir(parents=True)
        for i in range(2):
            noisy = np.clip(np.array(colour) + rng.normal(0, 30, (40, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / "data/val" / name / f"{i}.png")
    return tmp_path / "data"


def command(checkpoint, output, *more):
    given = ["publish", str(checkpoint), "--config-file", NAME, "--name", "Colours", "--licence", "mit"]
    return [*given, "--output", str(output), *more]


def test_publish(classifier, tmp_path, capsys):
    out = tmp_path / "published"
    facts = ("--data", "colours", "--metric", "top-1=33.3", "--note", "Red is a\nguess.")
    assert main(command(classifier, out, *facts, *SMALL)) == 0
    said = capsys.readouterr().out
    assert sha256_of(out / "model.safetensors") in said and "3 classes, float32" in said
    card = (out / "README.md").read_text()
    assert "**top-1:** 33.30" in card and "\nRed is a guess.\n" in card
    again = Predictor.from_pretrained(out, "cpu")
    assert list(again.metadata.thing_classes) == list(COLOURS)
    state = load_state_file(classifier)["model"]
    assert all(torch.equal(v, again.model.state_dict()[k]) for k, v in state.items())
    assert main(command(classifier, tmp_path / "half", "--half", *SMALL)) == 0
    assert (tmp_path / "half/model.safetensors").stat().st_size < 0.7 * (
        out / "model.safetensors"
    ).stat().st_size


def test_a_pre_training_is_published_without_what_predicts_pixels(tmp_path, capsys, refused):
    name = "Quickstart/pixel_mim_fast_itpn_nano"
    small = [f"model.backbone.{text}" for text in ("channels=[16,32,64]", "depths=[1,1,1]", "num_heads=2")]
    small += ["model.backbone.fpn_dim=32", "model.decoder_heads=2", "model.decoder_dim=32"]
    state = instantiate(model_zoo.get_config(name, overrides=small).model).state_dict()
    file = tmp_path / "run" / "model_final.pth"
    atomic_save({"model": state}, file)
    given = ["publish", str(file), "--config-file", name, "--name", "Small", "--licence", "mit", "--half"]
    out = tmp_path / "published"
    assert main([*given, "--output", str(out), "--set", *small]) == 0
    assert "without classes, float16" in capsys.readouterr().out
    again = model_zoo.from_pretrained(out).state_dict()
    assert again and {f"backbone.{key}" for key in again} < state.keys()
    for key, value in again.items():
        assert torch.equal(value.half(), state[f"backbone.{key}"].half()), key
    atomic_save({"model": {k: v for k, v in state.items() if "pyramid" not in k}}, file)
    with refused("or incomplete"):
        main([*given, "--output", str(tmp_path / "none"), "--set", *small])


def test_what_is_not_published(classifier, tmp_path, refused):
    out = tmp_path / "out"
    content = load_state_file(classifier)
    for change, words in (
        (lambda c: c.pop("classes"), "no class names"),
        (lambda c: c["model"].pop("network.head.weight"), "weights of another model, or incomplete"),
        (lambda c: c["model"]["network.head.bias"].fill_(float("nan")), "NaN or infinite"),
        (lambda c: c["classes"].update(names=["a", "b"]), "num_classes|mismatch|not all|classes"),
    ):
        other = {
            "model": {k: v.clone() for k, v in content["model"].items()},
            "classes": {"names": list(COLOURS)},
        }
        change(other)
        atomic_save(other, tmp_path / "other" / "other.pth")
        with refused(words):
            main(command(tmp_path / "other" / "other.pth", out, *SMALL))
    with refused("has another size or kind"):
        main(command(classifier, out))
    with refused("NAME=NUMBER"):
        main(command(classifier, out, "--metric", "top", *SMALL))
    with refused("no such file"):
        main(command(tmp_path / "none.pth", out, *SMALL))
    with refused("not a repository of the hub"):
        main(command(classifier, tmp_path / "pushed", "--push", "name", *SMALL))
    assert not out.exists()


@pytest.fixture
def quoted(monkeypatch, classifier, cache):
    """An entry with a quoted number, and its weights."""
    cache.mkdir(parents=True, exist_ok=True)
    classifier.rename(cache / "colours.pth")
    weights = Weights("colours.pth", "a test", "none")
    metric = Metric("top-1", 50.0, "colours", "quoted", "a test")
    entry = Entry(f"{NAME}.py", "classification", IMAGENET, "none", weights, metrics=(metric,))
    monkeypatch.setitem(ENTRIES, NAME, entry)
    monkeypatch.setitem(WEIGHTS, "colours.pth", weights)


@pytest.mark.parametrize("folder", ["data", "data/val"])
def test_reproduce(folder, quoted, images, tmp_path, capsys):
    given = ["reproduce", NAME, "--data", str(tmp_path / folder), "--output", str(tmp_path / "out"), *SMALL]
    assert main(given) == 0
    said = capsys.readouterr().out
    results = json.loads((tmp_path / "out/results.json").read_text())["classification/top1"]
    row = re.search(r"^top-1 +([\d.]+) +50.00 +([-+][\d.]+)$", said, re.MULTILINE)
    assert row and float(row[1]) == pytest.approx(results, abs=0.01)
    assert float(row[2]) == pytest.approx(results - 50, abs=0.01)


def test_what_is_not_reproduced(quoted, tmp_path, refused):
    def run(name, data=tmp_path, *more):
        main(["reproduce", name, "--data", str(data), "--output", str(tmp_path / "out"), *more])

    with refused("no model 'nothing'"):
        run("nothing")
    for without in ("faster_rcnn_fast_itpn_base_1x", "fast_itpn_base_224"):
        with refused("no published"):
            run(without)
    with refused("no such folder"):
        run(NAME, tmp_path / "none", *SMALL)
    with refused("has no annotations/instances_val2017.json"):
        run("mask_rcnn_itpn_base_1x", tmp_path, "--weights", "x.pth")
    with refused(
        "of 100 generated scenes, but --data supports only classifiers on ImageNet and detectors on COCO"
    ):
        run("Quickstart/mask_rcnn_fast_itpn_nano", tmp_path, "--weights", "x.pth")
    with refused("task is semantic_segmentation, but --data supports only"):
        run("Quickstart/semantic_fpn_fast_itpn_nano", tmp_path, "--weights", "x.pth")
