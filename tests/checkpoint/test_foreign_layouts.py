"""Synthetic files with the names, shapes and wrappings of every public repository load, with a report.

Their names and shapes (``layout_names``) are written down from the reference models, not derived from our key
maps.
"""

import argparse
import collections
import pathlib

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer

from checkpoints.names import (
    CHANNELS,
    SIDE,
    classifier_names,
    fast_names,
    fastmim_state,
    filled,
    pyramid_names,
    shapes,
    v1_names,
)
from itpn_d2 import create_model
from itpn_d2.backbone.adapt import adapt_bands
from itpn_d2.checkpoint import CheckpointError, create_from_checkpoint, from_native, load_pretrained

FAST = dict(channels=CHANNELS, depths=(1, 1, 2), num_heads=2, pos_grid=(SIDE, SIDE))
FINE_TUNED = dict(
    optimizer={"state": {}, "param_groups": [{"lr": 0.1}]},
    epoch=99,
    scaler={"scale": 65536.0},
    args=argparse.Namespace(
        lr=1e-4, output_dir=pathlib.Path("/x/y"), seed=np.int64(0), decay=np.float64(0.9)
    ),
)


def same_sizes(state, names):
    expected = shapes([n for n in names if "index" not in n[0]])
    assert {k: tuple(v.shape) for k, v in state.items()} == expected


@pytest.mark.parametrize(
    ("variant", "depths", "channels"),
    [
        ("tiny", (1, 1, 12), (96, 192, 384)),
        ("small", (2, 2, 20), (96, 192, 384)),
        ("base", (3, 3, 24), (128, 256, 512)),
        ("large", (2, 2, 40), (192, 384, 768)),
    ],
)
def test_full_size_names_of_fast_itpn(variant, depths, channels):
    names = fast_names(channels, depths, 14)
    with torch.device("meta"):
        classifier = create_model(f"fast_itpn_{variant}", num_classes=1000)
        backbone = create_model(f"fast_itpn_{variant}", pyramid=True)
    same_sizes(from_native(classifier.state_dict()), names + classifier_names(channels[2], 1000))
    pyramid = pyramid_names(channels, 256, 1, 682, conv=True)
    same_sizes(from_native(backbone.state_dict()), [*names, ("norm.", (channels[2],)), *pyramid])


@pytest.mark.parametrize(
    ("variant", "depths", "channels", "heads"),
    [("base", (3, 3, 24), (128, 256, 512), 8), ("large", (2, 2, 40), (192, 384, 768), 12)],
)
@pytest.mark.parametrize("clip", [False, True])
def test_full_size_names_of_itpn(variant, depths, channels, heads, clip):
    scale = 0.1 if clip else None
    with torch.device("meta"):
        classifier = create_model(f"itpn_{variant}", num_classes=1000, rel_pos="table", layer_scale=scale)
        backbone = create_model(f"itpn_{variant}", pyramid=True, layer_scale=scale, fpn_depth=2 - clip)
    names = v1_names(channels, depths, 14, heads=heads, gammas=clip, rpe=True)
    same_sizes(from_native(classifier.state_dict()), names + classifier_names(channels[2], 1000))
    names = v1_names(channels, depths, 14, gammas=clip) + pyramid_names(
        channels, 256, 2 - clip, 1024, conv=False
    )
    same_sizes(from_native(backbone.state_dict()), names)


def test_fast_itpn_pretraining_file(tmp_path):
    names = fast_names() + pyramid_names(CHANNELS, 24, 1, 64, conv=True)
    state = filled([*names, ("norm.", (32,)), ("mask_token", (1, 1, 128)), ("lm_head.", (6, 32))])
    state |= filled([("decoder_embed.0.1.", (32, 24, 1, 1))])
    path = tmp_path / "fast_itpn_tiny_1600e_1k.pt"
    content = {
        "module": {k: v.half() for k, v in state.items()},
        "ds_config": {"train_batch_size": 8},
        "global_steps": 7,
        "lr_scheduler": None,
    }
    torch.save(content, path)
    model = create_model("fast_itpn_nano", pyramid=True, fpn_dim=24, **FAST)
    report = load_pretrained(model, path)
    assert report.layout == "official" and not (report.missing or report.unexpected or report.mismatched)
    assert report.adapted == [f"{len(report.loaded)} tensors: float16 -> float32"]
    assert {k.split(".")[0] for k in report.ignored} == {"mask_token", "lm_head", "decoder_embed"}
    assert "under module, float16" in str(report) and "pyramid 24 x 1" in str(report)
    own = model.state_dict()
    q = own["trunk.stage3.1.attn.qkv.weight"][:32]
    assert torch.equal(q, state["blocks.5.attn.q_proj.weight"].half().float())
    built = create_from_checkpoint(path)
    assert all(torch.equal(v, own[k]) for k, v in built.state_dict().items())


def test_fine_tuned_file_with_a_namespace(tmp_path):
    state = filled(fast_names() + classifier_names())
    path = tmp_path / "fine_tuned.pth"
    torch.save({"model": state, **FINE_TUNED, "model_ema": {k: v + 1 for k, v in state.items()}}, path)
    model = create_model("fast_itpn_nano", num_classes=5, **FAST)
    report = load_pretrained(model, path)
    assert len(report.loaded) == len(model.state_dict()) and not (report.missing or report.ignored)
    assert torch.equal(model.head.bias, state["head.bias"])
    load_pretrained(model, path, prefer_average=True)
    assert torch.equal(model.head.bias, state["head.bias"] + 1)
    assert create_from_checkpoint(path)(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("fpn", [24, 32])  # 32: the width of stage 3, as 512 is in base: no align layer
@pytest.mark.parametrize("clip", [False, True])
def test_itpn_pretraining_files(tmp_path, fpn, clip):
    names = v1_names(gammas=clip, rpe=clip) + pyramid_names(CHANNELS, fpn, 2 - clip, 4 * fpn, conv=False)
    extra = [("mask_token", (1, 1, 32)), ("decoder_embed.0.0.", (fpn,)), ("norm.", (32,))]
    extra += [("lm_cls_head.", (6, 32)), ("norm_cls.", (32,)), ("cls_pt_layers.0.norm1.", (32,))] * clip
    extra += [("decoder_pos_embed", (1, 16, 32)), ("decoder_pred.", (768, 32))] * (not clip)
    path = tmp_path / "itpn.pth"
    torch.save({"model": filled(names + extra), **FINE_TUNED}, path)
    model = create_from_checkpoint(path)
    assert model.pyramid.fpn_dim == fpn and len(model.pyramid.blocks_p2) == 2 - clip
    assert (model.pyramid.align_p4.__class__.__name__ == "Identity") == (fpn == 32)
    assert model.trunk.has_relative_positions == clip
    fresh = create_model(
        "itpn_nano",
        pyramid=True,
        fpn_dim=fpn,
        fpn_depth=2 - clip,
        layer_scale=0.1 if clip else None,
        rel_pos="table" if clip else "none",
        **FAST,
    )
    report = load_pretrained(fresh, path)
    assert report.layout == "official v1" and len(report.loaded) == len(fresh.state_dict())
    known = {k.split(".")[0] for k in shapes(extra)} | ({"relative_position_index"} if clip else set())
    assert {k.split(".")[0] for k in report.ignored} == known


def test_another_pyramid_is_hinted_at():
    names = v1_names() + pyramid_names(CHANNELS, 32, 2, 128, conv=False)
    model = create_model("itpn_nano", pyramid=True, fpn_dim=24, fpn_depth=1, **FAST)
    report = load_pretrained(model, filled(names))
    assert any(h.endswith("with fpn_dim=32 (not 24), fpn_depth=2 (not 1)") for h in report.hints)
    assert len(report.mismatched) > 30 and "pyramid.*: file (32,), model (24,) (17 times)" in str(report)
    assert not [k for k in report.missing if k.startswith("trunk.")]
    assert [k for k in report.missing if k.startswith("pyramid.")]


@pytest.mark.parametrize("supervised", [False, True])
def test_hivit_files(tmp_path, supervised):
    """Its depths are doubled in stages 1-2; the supervised code keeps an index in every attention and saves
    a yacs node beside the weights."""
    from yacs.config import CfgNode

    depths = (2, 2, 3)
    names = v1_names(depths=depths, rpe=supervised)
    if supervised:
        names = [n for n in names if n[0] != "relative_position_index"] + classifier_names()
        names += [(f"blocks.{i}.attn.relative_position_index", (16, 16)) for i in (6, 7, 8)]
    else:
        names += [("norm.", (7 * 32,)), ("decoder_embed.", (16, 7 * 32)), ("mask_token", (1, 1, 16))]
        names += [("decoder_blocks.0.norm1.", (16,)), ("decoder_pos_embed", (1, 16, 16))]
    path = tmp_path / "mae_hivit.pth"
    torch.save({"model": filled(names), "config": CfgNode({"MODEL": {"TYPE": "hivit"}}), "epoch": 1}, path)
    model = create_from_checkpoint(path)
    trunk = model.trunk if supervised else model
    assert trunk.depths == depths
    report = load_pretrained(create_model("itpn_nano", **{**FAST, "depths": depths}), path)
    assert not [k for k in report.missing if "rel_pos" not in k]
    with pytest.raises(CheckpointError, match=r"mae_hivit.*depths=\(2, 2, 3\) \(not \(1, 1, 2\)\)"):
        load_pretrained(create_model("itpn_nano", **FAST), path)


class HistoryBuffer:
    def __init__(self):
        self.max_length, self._log_history = 10, np.zeros(3)


HistoryBuffer.__module__ = "mmengine.logging.history_buffer"


@pytest.mark.parametrize("clip", [False, True])
def test_mmpretrain_file(tmp_path, monkeypatch, clip):
    """Base has 4, 4, 24 blocks there; trunk and pyramid lie apart, beside heads and a logger's objects."""
    import sys
    import types

    depths = (2, 2, 3)
    trunk = v1_names(depths=depths, rpe=clip, pos="pos_embed")
    trunk += [(f"blocks.{i}.attn.relative_position_index", (16, 16)) for i in (6, 7, 8) if clip]
    neck = pyramid_names(CHANNELS, 24, 2, 96, conv=False)
    heads = [("decoder_embed.0.0.", (24,)), ("norm.", (32,))]
    heads += [("mask_token", (1, 1, 32)), ("decoder_blocks.0.ln1.", (32,)), ("ln1.", (32,))] * (not clip)
    state = {f"backbone.{k}": v for k, v in filled(trunk).items()}
    state |= {f"neck.{k}": v for k, v in filled(neck + heads).items()}
    state |= {"head.head.weight": torch.zeros(6, 32), "target_generator.clip.visual.proj": torch.zeros(3, 3)}
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["mmengine.logging.history_buffer"].HistoryBuffer = HistoryBuffer
    hub = {"log_scalars": collections.OrderedDict(loss=HistoryBuffer()), "runtime_info": {}}
    path = tmp_path / "itpn-pixel.pth"
    torch.save({"meta": {"epoch": 400, "cfg": "..."}, "state_dict": state, "message_hub": hub}, path)
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.delitem(sys.modules, name)
    model = create_from_checkpoint(path)
    assert model.trunk.depths == depths and len(model.pyramid.blocks_p3) == 2
    report = load_pretrained(model, path)
    assert report.layout == "mmpretrain" and not (report.missing or report.unexpected or report.mismatched)
    assert "head.head.weight" in report.ignored and "under state_dict" in str(report)
    assert torch.equal(model.trunk.pos_embed.flatten(1, 2), state["backbone.pos_embed"])
    assert torch.equal(model.pyramid.lateral_p2.weight, state["neck.align_dim_8to4.weight"])


VIT = dict(patch_size=16, embed_dim=16, depth=2, num_heads=2, num_classes=0)
SWIN = dict(patch_size=4, embed_dim=8, depths=(1, 2), num_heads=(1, 2), num_classes=0)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("bands", [1, 3, 4, 6])
def test_fastmim_vit_into_timm(tmp_path, size, bands):
    state = fastmim_state(VisionTransformer(img_size=64, **VIT), "")
    torch.save({"model": state, **FINE_TUNED}, tmp_path / "vit_base_fastmim_hog_800e_pretrain.pth")
    model = VisionTransformer(img_size=size, in_chans=bands, **VIT)
    report = load_pretrained(model, tmp_path / "vit_base_fastmim_hog_800e_pretrain.pth")
    assert report.layout.startswith("ViT") and not (report.missing or report.unexpected or report.mismatched)
    rows = ["pos_embed: grid 4x4 -> 6x6, bicubic"] * (size == 96)
    if bands != 3:
        rows.append(f"patch_embed.proj.weight: input bands 3 -> {bands}, " + BANDS[bands])
    assert report.adapted == rows and "num_heads=6" in str(report)
    assert torch.equal(model.blocks[1].attn.qkv.weight, state["blocks.1.attn.qkv.weight"])
    assert torch.isfinite(model(torch.zeros(1, bands, size, size))).all()


@pytest.mark.parametrize("window", [4, 6])
@pytest.mark.parametrize("wrapped", [False, True])
def test_fastmim_swin_into_timm(tmp_path, window, wrapped):
    state = fastmim_state(SwinTransformer(img_size=64, window_size=4, **SWIN), "encoder.")
    path = tmp_path / "swin_base_fastmim_hog_400e_pretrain.pth"
    torch.save({"model": state, **FINE_TUNED}, path)
    model = SwinTransformer(img_size=16 * window, window_size=window, in_chans=4, **SWIN)
    report = load_pretrained(torch.nn.ModuleDict({"bottom_up": model}) if wrapped else model, path)
    assert report.layout.startswith("Swin") and not (report.missing or report.unexpected or report.mismatched)
    assert torch.equal(
        model.layers[1].downsample.reduction.weight, state["encoder.layers.0.downsample.reduction.weight"]
    )
    tables = [r for r in report.adapted if "window table 7x7 -> 11x11" in r]
    assert len(tables) == (3 if window == 6 else 0) and "input bands 3 -> 4" in report.adapted[0]


def test_full_size_networks_of_timm_take_the_published_names():
    with torch.device("meta"):
        vit = timm.create_model("vit_base_patch16_224", num_classes=0)
        swin = timm.create_model("swin_base_patch4_window7_224", num_classes=0)
    names = set(vit.state_dict())
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.11.mlp.fc2.bias"} <= names
    assert "layers.3.downsample.reduction.weight" in swin.state_dict()
    assert vit.pos_embed.shape == (1, 197, 768) and swin.patch_embed.proj.weight.shape == (128, 3, 4, 4)


BANDS = {1: "summed", 4: "repeated, times 3/4", 6: "repeated, times 3/6"}


@pytest.mark.parametrize("bands", [1, 4, 6])
@pytest.mark.parametrize("names", [fast_names, v1_names])
def test_input_bands_adapt(names, bands):
    """As timm does it, in a linear layer; the response to a grey image stays where bands are a multiple."""
    from timm.models._manipulate import adapt_input_conv

    state = filled(names())
    variant = "fast_itpn_nano" if names is fast_names else "itpn_nano"
    model = create_model(variant, in_channels=bands, **FAST)
    report = load_pretrained(model, state)
    assert report.adapted == [f"patch_embed.proj.weight: input bands 3 -> {bands}, {BANDS[bands]}"]
    kernel = model.patch_embed.proj.weight.unflatten(1, (bands, 4, 4))
    expected = adapt_input_conv(bands, state["patch_embed.proj.weight"])
    torch.testing.assert_close(kernel.detach(), expected)
    if bands != 4:  # four bands count the first one twice
        torch.testing.assert_close(kernel.detach().sum(1), state["patch_embed.proj.weight"].sum(1))


@pytest.mark.parametrize(("old", "new"), [(6, 1), (6, 3), (4, 6), (1, 3)])
def test_bands_of_any_file(old, new):
    kernel = torch.arange(1.0, 1 + old)[None, :, None, None].expand(2, old, 4, 4)
    assert adapt_bands(kernel, new).shape == (2, new, 4, 4)
    state = filled(fast_names(bands=old))
    report = load_pretrained(create_model("fast_itpn_nano", in_channels=new, **FAST), state)
    assert f"input bands {old} -> {new}" in report.adapted[0]


def test_tables_follow_the_grid():
    state = filled(v1_names(rpe=True))
    model = create_model("itpn_nano", rel_pos="table", **{**FAST, "pos_grid": (6, 3)})
    report = load_pretrained(model, state)
    assert "pos_embed: grid 4x4 -> 6x3, bicubic" in report.adapted
    assert sum("rel_pos.table: grid 7x7 -> 11x5, bicubic" in r for r in report.adapted) == 2
    assert "grid 7x7 -> 11x5, bicubic (2 times)" in str(report)
    assert model.stage3[0].attn.rel_pos.table.shape == (1, 11, 5, 2)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_safetensors_of_any_layout(tmp_path, half):
    for number, names in enumerate((fast_names(), v1_names(), v1_names(pos="pos_embed"))):
        path = tmp_path / f"{number}.safetensors"
        save_file({k: v.to(half) for k, v in filled(names).items()}, path)
        report = load_pretrained(create_from_checkpoint(path), path)
        assert not report.missing and str(half).removeprefix("torch.") in str(report)


def test_an_official_backbone_inside_a_detector():
    state = {f"backbone.{k}": v for k, v in filled(v1_names()).items()}
    state["rpn_head.rpn_cls.weight"] = torch.zeros(3)
    report = load_pretrained(create_model("itpn_nano", **FAST), {"state_dict": state})
    assert not report.missing and report.ignored == ["rpn_head.rpn_cls.weight"]


@pytest.mark.parametrize(
    ("names", "variant", "changes", "remedy"),
    [
        (v1_names(gammas=True), "itpn_nano", {}, "layer_scale=0.1 (not None)"),
        (v1_names(), "itpn_nano", {"layer_scale": 0.1}, "layer_scale=None (not 0.1)"),
        (v1_names(), "fast_itpn_nano", {}, "family='itpn' (not 'fast_itpn')"),
        (fast_names(), "itpn_nano", {}, "family='fast_itpn' (not 'itpn')"),
        (fast_names(depths=(1, 1, 3)), "fast_itpn_nano", {}, "depths=(1, 1, 3) (not (1, 1, 2))"),
        (fast_names(), "fast_itpn_nano", {"depths": (2, 1, 2)}, "depths=(1, 1, 2) (not (2, 1, 2))"),
        (v1_names(rpe=True), "itpn_nano", {"num_heads": 4, "rel_pos": "table"}, "num_heads=2 (not 4)"),
        (fast_names((16, 32, 64)), "fast_itpn_nano", {}, "channels=(16, 32, 64) (not (8, 16, 32))"),
    ],
)
def test_a_trunk_that_computes_something_else_is_refused(names, variant, changes, remedy):
    torch.manual_seed(0)
    model = create_model(variant, **{**FAST, **changes})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(model, filled(names))
    assert remedy in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_shorter_third_stage_is_taken_and_said():
    model = create_model("fast_itpn_nano", **{**FAST, "depths": (1, 1, 4)})
    report = load_pretrained(model, filled(fast_names()))
    assert {k.split(".")[1] for k in report.missing if k.startswith("stage3")} == {"2", "3"}
    assert "ends after 2 of 4 blocks" in str(report)


@pytest.mark.parametrize("ratio", [4.0, 8 / 3, 2.5])
def test_a_ratio_of_another_width_is_the_same_ratio(ratio):
    """Hidden widths are floored: 24 and 40 channels show the same ratio only nearly."""
    source = create_model("itpn_nano", pyramid=True, fpn_dim=40, pyramid_mlp_ratio=ratio, **FAST)
    for other in (4.0, 8 / 3, 2.5):
        model = create_model("itpn_nano", pyramid=True, fpn_dim=24, pyramid_mlp_ratio=other, **FAST)
        (hint,) = load_pretrained(model, dict(source.state_dict())).hints
        assert ("pyramid_mlp_ratio" in hint) == (other != ratio)


@pytest.mark.parametrize(
    "name", ["blocks.5.norm1.", "blocks.0.mlp.fc1.", "patch_embed.proj.", "blocks.1.norm."]
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_trunk_with_a_hole_is_refused(name, wrapped):
    torch.manual_seed(0)
    model = create_model("fast_itpn_nano", **FAST)
    whole = torch.nn.ModuleDict({"backbone": create_model("fast_itpn_nano", pyramid=True, **FAST)})
    model = whole if wrapped else model
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="missing"):
        load_pretrained(model, filled([n for n in fast_names() if n[0] != name]))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_networks_of_the_wrong_kind_are_named():
    vit, trunk = VisionTransformer(img_size=64, **VIT), create_model("fast_itpn_nano", **FAST)
    with pytest.raises(CheckpointError, match="itpn_d2.create_model"):
        load_pretrained(vit, filled(fast_names()))
    with pytest.raises(CheckpointError, match="no such timm network"):
        load_pretrained(trunk, fastmim_state(vit, ""))
    other = VisionTransformer(img_size=64, **{**VIT, "depth": 3})
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="another size or kind"):
        load_pretrained(other, fastmim_state(vit, ""))
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())
