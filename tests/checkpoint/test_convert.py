"""Conversions: bit-exact there and back, atomic, refused with a remedy where a layout can't hold it."""

import os

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from itpn_d2 import VARIANTS, create_model
from itpn_d2.checkpoint import (
    Checkpointer,
    CheckpointError,
    atomic_save,
    convert,
    find_state,
    from_native,
    inspect,
    load_pretrained,
    load_state_file,
    to_native,
)
from itpn_d2.errors import OutputError

NARROW = dict(channels=(8, 16, 32), num_heads=2, pos_grid=(4, 4))
SMALL = dict(NARROW, depths=(1, 1, 2))


def states_equal(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        assert value.dtype == b[key].dtype and torch.equal(value, b[key]), key


def state_of(path):
    return find_state(load_state_file(path)).state


FORMS = {
    "backbone": dict(pyramid=True, fpn_dim=24, fpn_depth=2),
    "wide pyramid": dict(pyramid=True, fpn_dim=32),
    "classifier": dict(num_classes=5),
    "norm first": dict(num_classes=5, pooling="norm_then_mean"),
    "trunk": {},
    "six bands": dict(in_channels=6),
}
V1_FORMS = {
    **{k: v for k, v in FORMS.items() if k != "norm first"},
    "clip": dict(layer_scale=0.1, rel_pos="table", num_classes=5),
    "decomposed": dict(rel_pos="decomposed", pyramid=True, fpn_dim=24),
}
ALL = [("fast_itpn_nano", f, torch.float32) for f in FORMS] + [
    ("itpn_nano", f, torch.float32) for f in V1_FORMS
]
ALL += [("fast_itpn_nano", "backbone", torch.float16), ("itpn_nano", "clip", torch.bfloat16)]


def random_model(name, **options):
    torch.manual_seed(0)
    model = create_model(name, **options)
    for p in model.parameters():
        torch.nn.init.normal_(p)
    return model


def full_names(model):
    """Names as a backbone or classifier has them."""
    ours = ("trunk.", "pyramid.", "fc_norm.", "head.")
    return {k if k.startswith(ours) else f"trunk.{k}": v for k, v in model.state_dict().items()}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("form", ["backbone", "classifier"])
def test_round_trip_of_every_variant_in_memory(name, form):
    """Real depths, narrow channels."""
    state = full_names(random_model(name, **NARROW, **FORMS[form]))
    official = from_native(state)
    states_equal(to_native(official).state, state)
    states_equal(from_native(to_native(official).state), official)


@pytest.mark.parametrize(("name", "form", "dtype"), ALL, ids=lambda p: str(p))
def test_round_trip_of_every_form_and_format(tmp_path, name, form, dtype):
    options = (FORMS if name == "fast_itpn_nano" else V1_FORMS)[form]
    model = random_model(name, **SMALL, **options).to(dtype)
    # torch file, safetensors, official in each, and back
    steps = [
        ("b.safetensors", "itpn_d2"),
        ("c.pth", "official"),
        ("d.safetensors", "official"),
        ("e.pt", "itpn_d2"),
    ]
    atomic_save({"model": model.state_dict()}, tmp_path / "a.pth")
    before = tmp_path / "a.pth"
    for step, layout in steps:
        report = convert(before, tmp_path / step, layout)
        assert not report.dropped + report.left_out
        before = tmp_path / step
    states_equal(state_of(tmp_path / "b.safetensors"), model.state_dict())
    assert any(k.startswith("blocks.") for k in state_of(tmp_path / "c.pth"))
    states_equal(state_of(tmp_path / "d.safetensors"), state_of(tmp_path / "c.pth"))
    states_equal(state_of(before), full_names(model))
    assert not load_pretrained(model, before).missing


@pytest.mark.parametrize("network", ["vit", "swin"])
def test_timm_networks_go_into_timm_names_only(tmp_path, network):
    torch.manual_seed(0)
    if network == "vit":
        model = VisionTransformer(
            img_size=64, patch_size=16, embed_dim=16, depth=2, num_heads=2, num_classes=0
        )
        published = dict(model.state_dict())
    else:
        model = SwinTransformer(
            img_size=64,
            patch_size=4,
            embed_dim=8,
            depths=(1, 2),
            num_heads=(1, 2),
            window_size=4,
            num_classes=0,
        )
        published = {
            "encoder." + k.replace("layers.1.downsample", "layers.0.downsample"): v
            for k, v in model.state_dict().items()
        }
    atomic_save({"model": published | {"decoder_pred.bias": torch.zeros(2)}}, tmp_path / "a.pth")
    report = convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert report.left_out == ["decoder_pred.bias"]
    states_equal(state_of(tmp_path / "b.safetensors"), model.state_dict())
    with pytest.raises(CheckpointError, match="keep the layout itpn_d2"):
        convert(tmp_path / "a.pth", tmp_path / "c.pth", "official")
    assert not (tmp_path / "c.pth").exists()


@pytest.fixture
def backbone_file(tmp_path):
    torch.manual_seed(0)
    model = create_model("fast_itpn_nano", pyramid=True, fpn_dim=24, **SMALL)
    atomic_save({"model": model.state_dict()}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.mark.parametrize("wrapper", ["model", "module", "state_dict", ""])
def test_wrappers(backbone_file, tmp_path, wrapper):
    convert(backbone_file, tmp_path / "x.pt", "official", wrapper)
    content = load_state_file(tmp_path / "x.pt")
    assert "blocks.5.gamma_1" in (content[wrapper] if wrapper else content)


def test_a_detector_keeps_its_heads_in_ours_and_is_refused_officially(backbone_file, tmp_path):
    state = {f"backbone.{k}": v for k, v in load_state_file(backbone_file)["model"].items()}
    state["roi_heads.box_head.fc1.weight"] = torch.ones(2, 2)
    content = {"model": state, "optimizer": {"lr": 1.0}, "iteration": 3, "pretraining": {"pixel_mean": [1.5]}}
    atomic_save(content, tmp_path / "detector.pth")
    report = convert(tmp_path / "detector.pth", tmp_path / "detector.safetensors")
    assert report.left_out == ["(optimizer)", "(iteration)"] and "(optimizer)" in str(report)
    back = load_state_file(tmp_path / "detector.safetensors")
    assert back.pop("pretraining") == {"pixel_mean": [1.5]}
    states_equal(back, state)
    with pytest.raises(CheckpointError, match=r"no counterpart of roi_heads\.box_head.*--drop"):
        convert(tmp_path / "detector.pth", tmp_path / "official.pth", "official")
    assert not (tmp_path / "official.pth").exists()
    report = convert(tmp_path / "detector.pth", tmp_path / "official.pth", "official", drop=["roi_heads."])
    assert report.dropped == ["roi_heads.box_head.fc1.weight"] and "(pretraining)" in report.left_out


def test_our_own_training_checkpoint(tmp_path):
    model = create_model("fast_itpn_nano", num_classes=3, **SMALL)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Checkpointer(model, str(tmp_path), optimizer=optimizer).save("model_final", iteration=1)
    convert(tmp_path / "model_final.pth", tmp_path / "weights.safetensors")
    other = create_model("fast_itpn_nano", num_classes=3, **SMALL)
    Checkpointer(other).load(str(tmp_path / "weights.safetensors"), [])
    states_equal(other.state_dict(), model.state_dict())


@pytest.mark.parametrize("options", [dict(pos_grid=(4, 6)), dict(pos_grid=(2, 8))])
@pytest.mark.parametrize("name", ["fast_itpn_nano", "itpn_nano"])
def test_grids_that_the_official_layout_can_not_hold(tmp_path, name, options):
    """Also 2x8, whose 16 positions would come back as 4x4."""
    atomic_save({"model": create_model(name, **{**SMALL, **options}).state_dict()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"only square grids.*keep the layout itpn_d2"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth", "official")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors")
    rows, columns = options["pos_grid"]
    assert state_of(tmp_path / "b.safetensors")["pos_embed"].shape == (1, rows, columns, 32)


def test_what_acceleration_adds_is_named(tmp_path):
    model = create_model("fast_itpn_nano", gathering={}, **SMALL)
    extra = [k for k in model.state_dict() if k.startswith("gathering.")]
    atomic_save({"model": model.state_dict()}, tmp_path / "a.pth")
    assert extra
    with pytest.raises(CheckpointError, match=r"no counterpart of trunk\.gathering"):
        convert(tmp_path / "a.pth", tmp_path / "b.pth", "official")
    report = convert(tmp_path / "a.pth", tmp_path / "b.pth", "official", drop=["gathering."])
    assert report.dropped == extra


def test_moving_average(tmp_path):
    state = create_model("fast_itpn_nano", **SMALL).state_dict()
    average = {k: v + 1 for k, v in state.items()}
    atomic_save({"model": state, "model_ema": average}, tmp_path / "a.pth")
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors", prefer_average=True)
    states_equal(state_of(tmp_path / "b.safetensors"), average)


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("x.bin", {}, r"choose one of \.pth, \.pt, \.safetensors"),
        ("none/x.pth", {}, "does not exist"),
        ("model.pth", {"overwrite": True}, "is the source"),
        ("there.pth", {}, "--force"),
        ("x.pth", {"drop": ["nothing."]}, "no name begins like this"),
        ("x.pth", {"wrapper": "weights"}, "choose module, model, state_dict"),
        ("x.pth", {"layout": "timm"}, "choose itpn_d2 or official"),
    ],
)
def test_targets_that_are_refused(backbone_file, tmp_path, target, options, words):
    (tmp_path / "there.pth").write_text("old")
    files = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=words):
        convert(backbone_file, tmp_path / target, **options)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_overwriting_is_atomic(backbone_file, tmp_path, monkeypatch):
    target = tmp_path / "there.pth"
    target.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match="there.pth: can't be written .disk full"):
            convert(backbone_file, target, overwrite=True)
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    convert(backbone_file, target, overwrite=True)
    states_equal(state_of(target), state_of(backbone_file))


def test_inspect_writes_nothing(backbone_file, tmp_path):
    report = inspect(backbone_file)
    assert "8/16/32 x 1/1/2 blocks" in str(report) and "pyramid 24 x 1" in str(report)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pth"]


@pytest.mark.parametrize("average", [False, True])
def test_a_training_of_a_classifier_becomes_the_classifier(tmp_path, average):
    """What timm's tools take by ``checkpoint_path``, and the training itself again."""
    import timm

    from itpn_d2.meta_arch import ImageClassifier

    model = ImageClassifier(network=random_model("fast_itpn_nano", num_classes=5, **SMALL))
    mean = {k: v + 1 for k, v in model.state_dict().items()}
    content = {"model": model.state_dict(), "iteration": 7, "trainer": {"average": mean}}
    atomic_save(content, tmp_path / "model_final.pth")
    report = convert(tmp_path / "model_final.pth", tmp_path / "plain.safetensors", prefer_average=average)
    assert ("under trainer.average" in str(report)) == average
    assert set(report.left_out) == {"(iteration)", "(trainer)", *(["(model)"] if average else [])}
    expected = {k: v + average for k, v in model.network.state_dict().items()}
    states_equal(state_of(tmp_path / "plain.safetensors"), expected)
    options = {k: v for k, v in SMALL.items() if k != "pos_grid"}
    network = timm.create_model(
        "fast_itpn_nano",
        num_classes=5,
        img_size=64,
        checkpoint_path=str(tmp_path / "plain.safetensors"),
        **options,
    )
    states_equal(network.state_dict(), expected)
    assert not load_pretrained(model, tmp_path / "plain.safetensors").missing
    states_equal(model.network.state_dict(), expected)
