"""What a training starts from where its config says `auto`: the package's pre-training, where it fits."""

import logging

import pytest
import torch
from detectron2.config import instantiate
from safetensors.torch import load_file

from itpn_d2 import model_zoo
from itpn_d2.boxed import boxed_folder
from itpn_d2.checkpoint import Checkpointer
from itpn_d2.engine import ConfigError, Run, load_config
from itpn_d2.engine.start import named_weights, start_weights

NANO = [
    name
    for name in model_zoo.list()
    if name.startswith(("Custom/", "Quickstart/")) and name.endswith("fast_itpn_nano")
]


def config(name, *overrides):
    cfg = load_config(f"configs/{name}.py", list(overrides))
    for key in ("num_classes", "num_semantic_classes", "num_keypoints"):
        if cfg.dataset.get(key, 0) is None:
            cfg.dataset[key] = 3
    return cfg


@pytest.mark.parametrize("name", ["Quickstart/mask_rcnn_fast_itpn_nano", "Custom/dino_fast_itpn_nano"])
def test_a_detector_has_all_of_the_file(name, caplog):
    caplog.set_level(logging.INFO)
    cfg = config(name)
    model = instantiate(cfg.model)
    Checkpointer(model).load(start_weights(cfg, model), [])
    own = model.backbone.state_dict()
    file = load_file(boxed_folder("fast_itpn_nano") / "model.safetensors")
    assert len(file) > 100 and file.keys() == own.keys()
    for key, value in file.items():
        if key != "trunk.pos_embed":  # of another grid
            assert torch.equal(own[key], value.float()), key
    assert "train.init_checkpoint= trains from scratch" in caplog.text


@pytest.mark.parametrize(
    "sizes",
    [
        ["model.backbone.channels=[16,32,64]", "model.backbone.num_heads=2"],
        ["model.backbone.depths=[1,1,2]"],
        ["model.backbone.depths=[1,1,12]"],
        ["model.backbone.name=fast_itpn_tiny"],
    ],
)
def test_another_trunk_starts_from_scratch(sizes, caplog):
    caplog.set_level(logging.INFO)
    cfg = config("Quickstart/faster_rcnn_fast_itpn_nano", *sizes)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert start_weights(cfg, model) == ""
    assert "from scratch" in caplog.text


def test_what_is_named_is_taken():
    for given, expected in (("", ""), ("null", ""), ("x.pth", "x.pth"), ("auto", "")):
        cfg = config("Quickstart/faster_rcnn_fast_itpn_nano", f"train.init_checkpoint={given}")
        assert named_weights(cfg) == expected
        if given != "auto":
            assert start_weights(cfg, torch.nn.Identity()) == expected


def test_every_nano_config_of_a_detector_starts_so():
    assert len(NANO) > 5
    for name in NANO:
        cfg = config(name)
        if "backbone" in cfg.model and "decoder_dim" not in cfg.model:
            assert cfg.train.init_checkpoint == "auto", name


def test_a_start_is_no_trained_model(tmp_path):
    """Evaluation asks for weights as if there were none."""
    small = [f"dataset.{split}.{key}" for split in ("train", "val") for key in ("num_images=2", "size=64")]
    small += [f"dataset.{split}.root={tmp_path / 'data'}" for split in ("train", "val")]
    name = "configs/Quickstart/faster_rcnn_fast_itpn_nano.py"
    cfg = load_config(name, [f"train.output_dir={tmp_path / 'run'}", *small])
    with pytest.raises(ConfigError, match="needs weights: train.init_checkpoint=FILE"):
        Run(cfg).evaluate()
