"""Migration and gathering from every place that configures a backbone."""

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_backbone
from omegaconf import OmegaConf

from itpn_d2 import create_model
from itpn_d2.backbone import TokenGathering, TokenMigration
from itpn_d2.backbone import backbone as registered  # noqa: F401
from itpn_d2.backbone.backbone import ITPNBackbone
from itpn_d2.backbone.variants import get_variant
from itpn_d2.backbone.yacs import add_itpn_config
from itpn_d2.solver.layer_decay import parameter_rules

NANO = get_variant("fast_itpn_nano")


def parts(backbone):
    """What was asked for everywhere below."""
    migration, gathering = backbone.trunk.migration, backbone.trunk.gathering
    assert migration.ratios == (0.5, 0.9) and migration.blocks == (1, 3)
    assert gathering.window == 7 and gathering.tokens == 2 and gathering.global_blocks == {5}
    assert backbone(torch.randn(1, 3, 64, 64))["p4"].isfinite().all()
    return backbone


MIGRATION = {"keep": [0.5, 0.9], "at": [0.25, 0.5]}
GATHERING = {"window": 7, "tokens": 2, "global_blocks": [5]}


def test_dicts():
    parts(create_model("fast_itpn_nano", pyramid=True, migration=MIGRATION, gathering=GATHERING))
    parts(ITPNBackbone(NANO.trunk(), NANO.pyramid(), migration=MIGRATION, gathering=GATHERING))
    parts(ITPNBackbone(NANO.trunk(migration=MIGRATION, gathering=GATHERING), NANO.pyramid()))
    classifier = create_model("fast_itpn_nano", num_classes=3, migration=MIGRATION, gathering=GATHERING)
    assert classifier(torch.randn(1, 3, 64, 64)).shape == (1, 3)


def test_lazy_configs():
    whole = {"name": "fast_itpn_nano", "pyramid": True}
    parts(instantiate(LazyCall(create_model)(**whole, migration=MIGRATION, gathering=GATHERING)))
    nested = LazyCall(create_model)(
        **whole,
        migration=LazyCall(TokenMigration)(dim=192, depth=6, **MIGRATION),
        gathering=LazyCall(TokenGathering)(dim=192, depth=6, **GATHERING),
    )
    parts(instantiate(nested))


def test_override_of_a_config_that_does_not_name_them():
    cfg = OmegaConf.create({"model": LazyCall(create_model)(name="fast_itpn_nano", pyramid=True)})
    overrides = [
        "model.migration={keep: [0.5, 0.9], at: [0.25, 0.5]}",
        "model.gathering={window: 7, tokens: 2, global_blocks: [5]}",
    ]
    parts(instantiate(LazyConfig.apply_overrides(cfg, overrides).model))


@pytest.mark.parametrize("enabled", [True, False])
def test_yacs(enabled):
    cfg = add_itpn_config(get_cfg())
    cfg.MODEL.BACKBONE.NAME = "build_itpn_backbone"
    cfg.MODEL.ITPN.NAME = "fast_itpn_nano"
    cfg.MODEL.ITPN.FPN_DIM = 32
    cfg.MODEL.ITPN.MIGRATION.merge_from_list(["ENABLED", enabled, "KEEP", [0.5, 0.9], "AT", [0.25, 0.5]])
    cfg.MODEL.ITPN.GATHERING.merge_from_list(
        ["ENABLED", enabled, "WINDOW", 7, "TOKENS", 2, "GLOBAL_BLOCKS", [5]]
    )
    model = build_backbone(cfg)
    if enabled:
        parts(model)
    else:
        assert model.trunk.migration is None and model.trunk.gathering is None


def test_optimizer_and_freezing():
    model = create_model(
        "fast_itpn_nano", pyramid=True, migration={**MIGRATION, "affine": True}, gathering=GATHERING
    )
    rules = {rule.name: rule for _, rule in parameter_rules(model, 0.05, 0.5)}
    for name in ("trunk.gathering.offset", "trunk.migration.scale", "trunk.migration.shift"):
        assert rules[name].weight_decay == 0 and rules[name].lr_scale == 1
    model.freeze(4)
    assert not any(p.requires_grad for p in model.trunk.parameters())
