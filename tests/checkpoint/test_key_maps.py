import pytest
import torch

from itpn_d2 import create_model
from itpn_d2.backbone import IntegralPyramid
from itpn_d2.checkpoint import CheckpointError, from_native, to_native

MICRO = dict(channels=(8, 16, 32), depths=(2, 1, 3), num_heads=2, pos_grid=(4, 4))


def micro(kind):
    torch.manual_seed(0)
    if kind == "classifier":
        return create_model("fast_itpn_nano", num_classes=5, **MICRO)
    model = torch.nn.Module()
    model.trunk = create_model("fast_itpn_nano", **MICRO)
    model.pyramid = IntegralPyramid(MICRO["channels"], fpn_dim=24, fpn_depth=2)
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return model


@pytest.mark.parametrize("kind", ["classifier", "backbone"])
def test_round_trip_is_bit_exact(kind):
    ours = micro(kind).state_dict()
    official = from_native(ours)
    mapped = to_native(official)
    assert mapped.layout == "official" and not mapped.ignored
    assert mapped.state.keys() == ours.keys()
    assert all(torch.equal(mapped.state[k], ours[k]) for k in ours)
    again = from_native(mapped.state)
    assert all(torch.equal(again[k], official[k]) for k in official)


def micro_v1(rel_pos, scaled=True):
    torch.manual_seed(0)
    model = torch.nn.Module()
    model.trunk = create_model("itpn_nano", rel_pos=rel_pos, layer_scale=0.1 if scaled else None, **MICRO)
    model.pyramid = IntegralPyramid(
        MICRO["channels"], 24, 2, mlp_ratio=4.0, lateral_bias=False, split_bias=False
    )
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return model


@pytest.mark.parametrize("rel_pos", ["none", "table", "decomposed"])
def test_round_trip_of_v1(rel_pos):
    ours = micro_v1(rel_pos).state_dict()
    official = from_native(ours)
    mapped = to_native({**official, "relative_position_index": torch.zeros(1), "norm.weight": torch.ones(32)})
    assert mapped.layout == "official v1"
    assert sorted(mapped.ignored) == ["norm.weight", "relative_position_index"]
    assert mapped.state.keys() == ours.keys()
    assert all(torch.equal(mapped.state[k], ours[k]) for k in ours)


def test_v1_names_and_shapes():
    official = from_native(micro_v1("table").state_dict())
    shapes = {k: tuple(v.shape) for k, v in official.items()}
    assert shapes["absolute_pos_embed"] == (1, 16, 32)
    assert shapes["patch_embed.norm.bias"] == (8,)
    assert shapes["blocks.1.mlp.fc1.weight"] == (24, 8) and shapes["blocks.1.gamma_2"] == (8,)
    assert shapes["blocks.2.norm.weight"] == (32,) and shapes["blocks.2.reduction.weight"] == (16, 32)
    assert shapes["blocks.5.attn.qkv.bias"] == (96,)
    assert shapes["blocks.7.attn.relative_position_bias_table"] == (49, 2)
    assert shapes["split_8to4.reduction.weight"] == (96, 24)
    assert "split_8to4.reduction.bias" not in shapes and "align_dim_8to4.bias" not in shapes


@pytest.mark.parametrize(("scaled", "entries"), [(False, 363), (True, 417)])
def test_entry_counts_of_the_v1_classifiers(scaled, entries):
    """Published counts less the index buffer, which is not stored here."""
    with torch.device("meta"):
        model = create_model(
            "itpn_base", num_classes=1000, rel_pos="table", layer_scale=0.1 if scaled else None
        )
    assert len(from_native(model.state_dict())) == entries


def test_official_names_and_shapes():
    official = from_native(micro("backbone").state_dict())
    shapes = {k: tuple(v.shape) for k, v in official.items()}
    # blocks: stage 1 at 0-1, merge 2, stage 2 at 3, merge 4, stage 3 at 5-7
    assert shapes["patch_embed.proj.weight"] == (8, 3, 4, 4)
    assert shapes["blocks.1.mlp.fc1.weight"] == (24, 8, 1, 1)
    assert shapes["blocks.2.reduction.weight"] == (16, 8, 2, 2)
    assert shapes["blocks.4.norm.weight"] == (16,)
    assert shapes["blocks.7.attn.v_proj.weight"] == (32, 32)
    assert shapes["blocks.5.gamma_1"] == (32,)
    assert shapes["pos_embed"] == (1, 16, 32)
    assert shapes["align_dim_8to4.weight"] == (24, 8, 1, 1)
    assert shapes["split_16to8.reduction.weight"] == (32, 24, 2, 2)
    assert shapes["split_16to8.reduction.bias"] == (24,)
    assert shapes["block_16to8.1.mlp.fc2.weight"] == (24, 64, 1, 1)
    assert shapes["fpn_modules.2.norm2.bias"] == (24,)


@pytest.mark.parametrize(("name", "entries"), [("tiny", 283), ("small", 467), ("base", 567), ("large", 887)])
def test_entry_counts_of_the_published_classifiers(name, entries):
    with torch.device("meta"):
        model = create_model(f"fast_itpn_{name}", num_classes=1000)
    assert len(from_native(model.state_dict())) == entries


def test_pretraining_extras_are_ignored():
    official = from_native(micro("backbone").state_dict())
    extras = {
        "mask_token": torch.zeros(1, 1, 128),
        "decoder_embed.0.1.weight": torch.zeros(2, 2),
        "lm_head.weight": torch.zeros(2, 2),
    }
    mapped = to_native({**official, **extras})
    assert set(mapped.ignored) == set(extras)


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.backbone."])
def test_our_own_layout_passes_wherever_the_backbone_lies(prefix):
    ours = micro("backbone").state_dict()
    mapped = to_native({prefix + k: v for k, v in ours.items()})
    assert mapped.layout == "itpn_d2" and mapped.state.keys() == ours.keys()


def test_bare_trunk():
    trunk = create_model("fast_itpn_nano", **MICRO).state_dict()
    assert set(to_native(trunk).state) == {f"trunk.{k}" for k in trunk}


@pytest.mark.parametrize(
    "state",
    [
        {"layer1.0.conv1.weight": torch.zeros(3)},
        {},
        {"pos_embed": torch.zeros(1, 5, 8), "blocks.0.attn.qkv.bias": torch.zeros(3)},
    ],
)
def test_unknown_models_are_refused(state):
    with pytest.raises(CheckpointError, match="unknown checkpoint layout"):
        to_native(state)


def test_odd_position_count_is_refused():
    official = from_native(micro("backbone").state_dict())
    official["pos_embed"] = torch.zeros(1, 17, 32)
    with pytest.raises(CheckpointError, match="17 positions"):
        to_native(official)


def test_what_acceleration_learned_has_no_place_in_the_official_layout():
    accelerated = micro("backbone")
    accelerated.trunk.accelerate(migration={"affine": True}, gathering={})
    with pytest.raises(CheckpointError, match="no counterpart of .*--drop START"):
        from_native(accelerated.state_dict())
