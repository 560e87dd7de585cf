"""The backbone through Detectron2's registry and a yacs config."""

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone

from itpn_d2.backbone import backbone  # noqa: F401  (registers)
from itpn_d2.backbone.yacs import add_itpn_config


@pytest.mark.parametrize("levels", [["p2", "p3", "p4", "p5", "p6"], ["p3", "p5"]])
def test_build(levels):
    cfg = add_itpn_config(get_cfg())
    cfg.MODEL.BACKBONE.NAME = "build_itpn_backbone"
    cfg.MODEL.ITPN.NAME = "fast_itpn_nano"
    cfg.MODEL.ITPN.OUT_FEATURES = levels
    cfg.MODEL.ITPN.FPN_DIM = 32
    model = build_backbone(cfg)
    outputs = model(torch.randn(1, 3, 64, 64))
    assert list(outputs) == list(model.output_shape()) == levels
    assert model.size_divisibility == model.padding_constraints["size_divisibility"] == 32
