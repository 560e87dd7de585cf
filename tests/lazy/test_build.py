"""What can't be built is named by its place in the config."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyCall, instantiate
from omegaconf import OmegaConf

from itpn_d2.engine import load_config
from itpn_d2.errors import CheckpointError, ConfigError
from itpn_d2.lazy.build import build

ROOT = Path(__file__).resolve().parents[2] / "configs"
QUICKSTART = str(ROOT / "Quickstart" / "mask_rcnn_fast_itpn_nano.py")


def part(**parts):
    return parts


def fails(error):
    raise error


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("migration={keep: 2}", "^model.backbone: migration keep 2: give a ratio"),
        ("migration={nope: 2}", "^model.backbone: .*nope"),
        ("gathering={window: -1}", "^model.backbone: gathering window -1"),
        ("gathering={window: abc}", "^model.backbone: .*gathering.*abc"),
        ("checkpointing=stage9", "^model.backbone: checkpointing 'stage9'|^model.backbone: .*stage9"),
        ("channels=[7,13,29]", "^model.backbone: dim 29 is not divisible by num_heads"),
        ("channels=[0,0,0]", "^model.backbone: channels=.*at least 1"),
        ("depths=[-1,1,1]", "^model.backbone: depths=.*at least 1"),
        ("depths=[0,0,0]", "^model.backbone: depths="),
        ("num_heads=0", "^model.backbone: num_heads=0"),
        ("fpn_dim=0", "^model.backbone: fpn_dim=0"),
        ("fpn_depth=-1", "^model.backbone: fpn_depth=-1"),
        ("drop_path=2", "^model.backbone: drop_path=2"),
        ("mlp_ratio=-1", "^model.backbone: mlp_ratio=-1"),
        ("layer_scale=-1", "^model.backbone: layer_scale=-1"),
        ("pos_grid=[0,3]", "^model.backbone: pos_grid="),
        ("freeze_at=9", "^model.backbone: freeze_at"),
    ],
)
def test_refused_by_a_constructor(override, words):
    config = load_config(QUICKSTART, [f"model.backbone.{override}"])
    with pytest.raises(ConfigError, match=words):
        build(config.model)


def test_levels_of_another_width_reach_the_heads():
    config = load_config(QUICKSTART, ["model.backbone.fpn_dim=17"])
    config.dataset.num_classes = 2
    with torch.device("meta"):
        model = build(config.model)
    assert model.proposal_generator.rpn_head.conv.in_channels == 17


@pytest.mark.parametrize(
    "kind",
    [ValueError, KeyError, AssertionError, TypeError, RuntimeError, AttributeError, IndexError, OSError],
)
def test_the_innermost_place_is_named(kind):
    error = kind("why")
    config = OmegaConf.create(
        {"model": LazyCall(part)(list=[LazyCall(part)(c=LazyCall(fails)(error=error))])},
        flags={"allow_objects": True},
    )
    with pytest.raises(ConfigError, match=r"^model.list\[0\].c: .*why"):
        build(config.model)


def test_errors_of_use_and_of_memory_pass():
    with pytest.raises(CheckpointError, match="^mine$"):
        build(LazyCall(fails)(error=CheckpointError("mine")))
    with pytest.raises(torch.OutOfMemoryError):
        build(LazyCall(fails)(error=torch.OutOfMemoryError("no room")))


def test_it_builds_what_detectron2_builds():
    config = LazyCall(part)(a=[LazyCall(part)(b=1), 2], c={"d": LazyCall(part)(e=3)}, f=LazyCall(part)(g="x"))
    assert build(config) == instantiate(config)
    assert build(5) == 5 and build([LazyCall(part)(a=1)]) == [{"a": 1}] and build(None) is None
