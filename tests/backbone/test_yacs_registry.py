"""The backbone through Detectron2's registry and a yacs config."""

import subprocess
import sys

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone

from itpn_d2 import add_itpn_config
from itpn_d2.errors import ConfigError


def nano(levels=()):
    cfg = add_itpn_config(get_cfg())
    cfg.MODEL.BACKBONE.NAME = "build_itpn_backbone"
    cfg.MODEL.ITPN.NAME = "fast_itpn_nano"
    cfg.MODEL.ITPN.OUT_FEATURES = list(levels)
    cfg.MODEL.ITPN.FPN_DIM = 32
    return cfg


@pytest.mark.parametrize("levels", [["p2", "p3", "p4", "p5", "p6"], ["p3", "p5"]])
def test_build(levels):
    model = build_backbone(nano(levels))
    outputs = model(torch.randn(1, 3, 64, 64))
    assert list(outputs) == list(model.output_shape()) == levels
    assert model.size_divisibility == model.padding_constraints["size_divisibility"] == 32


@pytest.mark.parametrize(("architecture", "levels"), [("GeneralizedRCNN", "23456"), ("RetinaNet", "34567")])
def test_levels_follow_the_detector(architecture, levels):
    cfg = nano()
    cfg.MODEL.META_ARCHITECTURE = architecture
    assert list(build_backbone(cfg).output_shape()) == [f"p{k}" for k in levels]


@pytest.mark.parametrize("name", ["build_itpn_backbone", "build_timm_backbone"])
def test_a_config_without_our_keys(name):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = name
    with pytest.raises(ConfigError, match=rf"{name}.*no MODEL\..*add_itpn_config\(cfg\)"):
        build_backbone(cfg)


@pytest.mark.parametrize("first", ["itpn_d2", "detectron2.modeling"])
def test_importing_the_package_registers(first):
    """Whichever comes first; and the module with the registry keeps its own loader."""
    second = ({"itpn_d2", "detectron2.modeling"} - {first}).pop()
    code = (
        f"import {first}, {second}, detectron2.modeling.backbone as b; import sys; "
        "print([n for n, _ in b.BACKBONE_REGISTRY if 'itpn' in n or 'timm' in n], "
        "type(b.__loader__).__name__, "
        "[f for f in sys.meta_path if type(f).__module__ == 'itpn_d2.registration'])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    names = ["itpn", "timm", "timm_fpn", "timm_simple_pyramid"]
    expected = f"{[f'build_{n}_backbone' for n in names]} SourceFileLoader []"
    assert done.stdout.strip() == expected, done.stderr
