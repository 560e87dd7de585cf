"""Networks of timm as Detectron2 backbones: shapes of any size, pyramids, freezing, norms, files, rates,
precision."""

import copy

import pytest
import timm
import torch
from detectron2.config import get_cfg, instantiate
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool

from itpn_d2.backbone import ScaledLevels, SimplePyramid, TimmBackbone, timm_classifier, timm_shapes
from itpn_d2.backbone.timm_names import layer_ids, plain_name
from itpn_d2.backbone.yacs import add_itpn_config
from itpn_d2.checkpoint import (
    Checkpointer,
    CheckpointError,
    convert,
    inspect,
    load_pretrained,
    load_state_file,
)
from itpn_d2.engine import load_config
from itpn_d2.engine.prepare import without_sync_bn
from itpn_d2.solver import parameter_rules
from pretrain.encoders import SwinEncoder, TimmEncoder

SWIN = {"embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8), "window_size": 4}
VIT = {"embed_dim": 32, "depth": 4, "num_heads": 2}
CONVNEXT = {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}
HIERA = {"embed_dim": 16, "stages": (1, 1, 2, 1)}
SMALL = {
    "resnet18": {},
    "convnext_atto": CONVNEXT,
    "swin_tiny_patch4_window7_224": SWIN,
    "swinv2_tiny_window8_256": {**SWIN, "window_size": 4},
    "pvt_v2_b0": {"embed_dims": (8, 16, 24, 32), "num_heads": (1, 1, 2, 4)},
    "efficientnet_b0": {},
    "sam2_hiera_tiny": {},
}


def build(name, **more):
    torch.manual_seed(0)
    return TimmBackbone(name, options={**SMALL.get(name, {}), **more.pop("options", {})}, **more)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(64, 96), (70, 101)])
def test_networks_with_stages_under_an_fpn(name, size):
    backbone = build(name)
    assert list(backbone.output_shape()) == ["res2", "res3", "res4", "res5"]
    assert [s.stride for s in backbone.output_shape().values()] == [4, 8, 16, 32]
    assert backbone.size_divisibility == backbone.padding_constraints["size_divisibility"] == 32
    model = FPN(backbone, ["res2", "res3", "res4", "res5"], 16, top_block=LastLevelMaxPool()).train()
    # Detectron2 pads to size_divisibility; the backbone itself takes anything
    found = backbone(torch.randn(1, 3, *size))
    padded = [-(-s // 32) * 32 for s in size]
    for level, shape in backbone.output_shape().items():
        assert found[level].shape == (1, shape.channels, padded[0] // shape.stride, padded[1] // shape.stride)
    outputs = model(torch.randn(2, 3, *padded))
    sum(v.mean() for v in outputs.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert list(outputs) == ["p2", "p3", "p4", "p5", "p6"] and outputs["p6"].shape[-1] == -(-padded[1] // 64)


@pytest.mark.parametrize("size", [(64, 96), (50, 75), (224, 224)])
def test_a_plain_vit_under_a_simple_pyramid(size):
    net = TimmBackbone("vit_tiny_patch16_224", names=["last_feat"], options=VIT)
    assert net.output_shape()["last_feat"].channels == 32 and net.size_divisibility == 16
    model = SimplePyramid(net, "last_feat", 24, top_block=LastLevelMaxPool()).train()
    assert model.size_divisibility == 32
    outputs = model(torch.randn(1, 3, *size))
    padded = [-(-s // 32) * 32 for s in size]
    for level, shape in model.output_shape().items():
        if level != "p6":
            assert outputs[level].shape == (1, 24, padded[0] // shape.stride, padded[1] // shape.stride)
    assert list(outputs) == list(model.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    sum(v.mean() for v in outputs.values()).backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_parameters_of_the_simple_pyramid_are_named_as_upstreams():
    net = TimmBackbone("vit_tiny_patch16_224", names=["last_feat"], options=VIT)
    names = {n.split(".")[0] for n, _ in SimplePyramid(net, "last_feat", 8).named_parameters()}
    assert names == {"net", "simfp_2", "simfp_3", "simfp_4", "simfp_5"}


def test_pyramids_refuse_what_they_can_not_scale():
    net = TimmBackbone("vit_small_patch14_dinov2", options={**VIT, "img_size": 56})
    assert list(net.output_shape()) == ["block3"] and net.size_divisibility == 14
    with pytest.raises(ValueError, match="patch_size=16"):
        SimplePyramid(net, "block3", 8)
    net = TimmBackbone("vit_tiny_patch16_224", options=VIT)
    with pytest.raises(ValueError, match="scale_factors: 3"):
        SimplePyramid(net, "block3", 8, scale_factors=(3,))
    with pytest.raises(ValueError, match="four maps of stride 16"):
        ScaledLevels(net)


def test_four_depths_of_a_vit():
    net = TimmBackbone("vit_tiny_patch16_224", [0, 1, -2, -1], options=VIT)
    assert list(net.output_shape()) == ["block0", "block1", "block2", "block3"]
    outputs = ScaledLevels(net, norm="BN")(torch.randn(1, 3, 64, 96))
    assert [tuple(m.shape[-2:]) for m in outputs.values()] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    shapes = timm_shapes("vit_tiny_patch16_224", ["p5"], [0, 1, 2, 3], scaled=True, options=VIT)
    assert list(shapes) == ["p5"] and (shapes["p5"].stride, shapes["p5"].channels) == (32, 32)


def test_any_size_is_the_size_it_was_built_for():
    """Positions and masks follow: a network that was built for the size itself computes the same."""
    size = (96, 128)
    for name, options in (("vit_tiny_patch16_224", VIT), ("swin_tiny_patch4_window7_224", SWIN)):
        backbone = TimmBackbone(name, options=options).eval()
        more = {"always_partition": True} if "swin" in name else {}
        whole = timm.create_model(name, num_classes=0, img_size=size, **options, **more).eval()
        state = {k.removeprefix("model."): v for k, v in backbone.network.state_dict().items()}
        load_pretrained(whole, state)
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            found = list(backbone(image).values())[-1]
            expected = whole.forward_intermediates(
                image, indices=[-1 if "vit" in name else 3], intermediates_only=True
            )
        # ViT's table is resampled with antialiasing at run time, without when it is loaded
        tolerance = 0.2 if "vit" in name else 1e-5
        torch.testing.assert_close(found, expected[0], rtol=0, atol=tolerance)


def test_swin_shifts_its_windows_where_pretraining_had_only_one():
    blocks = build("swin_tiny_patch4_window7_224").network.model.layers[3].blocks
    assert blocks[1].shift_size == (2, 2) and blocks[1].window_size == (4, 4)


@pytest.mark.parametrize("name", ["hiera_tiny_224", "beit_base_patch16_224"])
def test_networks_of_one_size(name):
    options = HIERA if "hiera" in name else VIT
    backbone = TimmBackbone(name, img_size=128, options=options).eval()
    assert backbone.padding_constraints["square_size"] == 128
    stride = next(reversed(backbone.output_shape().values())).stride
    with torch.no_grad():
        small = list(backbone(torch.randn(1, 3, 64, 100)).values())[-1]
        assert small.shape[-2:] == (64 // stride, -(-100 // stride))
        with pytest.raises(ValueError, match="160x64 pixels: .* built for 128x128; give the backbone"):
            backbone(torch.randn(1, 3, 160, 64))


def test_maxvit_is_padded_to_whole_windows():
    backbone = TimmBackbone("maxvit_pico_rw_256", out_indices=[1, 2, 3, 4])
    assert backbone.size_divisibility == 256
    with torch.no_grad():
        found = backbone.eval()(torch.randn(1, 3, 128, 160))
    assert found["res2"].shape[-2:] == (32, 40) and found["res5"].shape[-2:] == (4, 5)


def test_maps_are_channels_first_in_every_wrapper():
    """Swin's own wrapper gives (B, H, W, C)."""
    backbone = build("swin_tiny_patch4_window7_224").eval()
    other = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, strict_img_size=False,
                              always_partition=True, **SWIN).eval()  # fmt: skip
    load_pretrained(other, {f"a.{k}": v for k, v in backbone.network.state_dict().items()})
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(backbone(image).values(), other(image), strict=True):
            torch.testing.assert_close(a, b.permute(0, 3, 1, 2))


def test_level_norms_and_names():
    backbone = build("convnext_atto", level_norms=True, out_indices=[2, 3])
    assert list(backbone.output_shape()) == ["res4", "res5"]
    found = backbone(torch.randn(1, 3, 64, 64))["res5"]
    torch.testing.assert_close(found.mean(1), torch.zeros(1, 2, 2), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="names .* gives 4 maps"):
        build("convnext_atto", names=["a"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "vit_tyni_patch16_224"}, "no network 'vit_tyni_patch16_224'; did you mean vit_tiny_"),
        ({"name": "resnet18", "out_indices": [7]}, "resnet18 has 5 features"),
        ({"name": "resnet18", "img_size": 64}, "leave img_size=64 out"),
        ({"name": "resnet18", "norm": "LN"}, "norm 'LN': choose"),
        ({"name": "resnet18", "freeze_at": 9}, "choose 0 to 5"),
        ({"name": "resnet18", "options": {"windows": 3}}, "does not take these options"),
    ],
)
def test_wrong_options_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        TimmBackbone(**wrong)


def trainable(model):
    return {plain_name(n) for n, p in model.network.named_parameters() if p.requires_grad}


def test_frozen_stages():
    stem = {"conv1.", "bn1."}
    for freeze_at, frozen in (
        (0, set()),
        (1, stem),
        (2, {*stem, "layer1."}),
        (3, {*stem, "layer1.", "layer2."}),
    ):
        model = build("resnet18", freeze_at=freeze_at)
        assert not [n for n in trainable(model) if n.startswith(tuple(frozen))] or not frozen
        assert [n for n in trainable(model) if n.startswith("layer3.")]
        kinds = {
            type(m).__name__ for n, m in model.network.model.named_modules() if n in ("bn1", "layer1.0.bn1")
        }
        assert ("FrozenBatchNorm2d" in kinds) == (freeze_at > 0)
    model = TimmBackbone("vit_tiny_patch16_224", options=VIT, freeze_at=3)
    left = trainable(model)
    assert not [
        n for n in left if n.startswith(("patch_embed", "cls_token", "pos_embed", "blocks.0.", "blocks.1."))
    ]
    assert [n for n in left if n.startswith("blocks.2.")]
    swin = trainable(build("swin_tiny_patch4_window7_224", freeze_at=2))
    assert not [n for n in swin if n.startswith(("patch_embed", "layers.0."))] and len(swin) > 10
    everything = build("pvt_v2_b0", freeze_at=5)
    assert not trainable(everything)


def test_frozen_and_synchronised_batch_norms():
    frozen = build("resnet18", norm="FrozenBN").train()
    assert not [m for m in frozen.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    before = copy.deepcopy(frozen.state_dict())
    frozen(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(v, before[k]) for k, v in frozen.state_dict().items())
    plain = timm.create_model("resnet18")
    report = load_pretrained(frozen, {"state_dict": plain.state_dict()})
    assert not report.missing and {k.rpartition(".")[2] for k in report.ignored} == {"num_batches_tracked"}
    synchronised = build("efficientnet_b0", norm="SyncBN")
    kinds = {type(m).__name__ for m in synchronised.modules()}
    assert "SyncBatchNormAct" in kinds and "BatchNormAct2d" not in kinds  # the activations stay
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = build("efficientnet_b0").eval()(image)["res5"]
        found = without_sync_bn(synchronised).eval()(image)["res5"]  # what the engine does on a CPU
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "convnext_atto", "resnet18", "pvt_v2_b0"])
def test_recomputed_activations_change_nothing(name):
    whole, cheap = build(name, norm="FrozenBN"), build(name, norm="FrozenBN", checkpointing=True)
    cheap.load_state_dict(whole.state_dict())
    image = torch.randn(1, 3, 64, 64)
    calls = []
    part = next(m for n, m in cheap.network.named_modules() if n.endswith(("blocks.0", "layer1.0")))
    part.register_forward_pre_hook(lambda *_: calls.append(1))
    for model in (whole, cheap):
        sum(v.square().mean() for v in model.train()(image).values()).backward()
    assert len(calls) == 2
    for (key, a), (_, b) in zip(whole.named_parameters(), cheap.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=key)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "convnext_atto", "resnet18"])
def test_bfloat16_and_channels_last(name):
    model = build(name, level_norms=True).eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = model(image)
        other = copy.deepcopy(model).to(memory_format=torch.channels_last)
        found = other(image.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = model(image)
    for level, value in expected.items():
        torch.testing.assert_close(found[level], value, rtol=1e-3, atol=1e-4)
        assert (half[level].float() - value).abs().mean() < 0.05


def test_layers_of_networks_with_stages_agree_with_fastmim():
    """Its fine-tuning: blocks count over all stages, what leads into a stage has the block before it."""
    for name, number in (
        ("swin_tiny_patch4_window7_224", 8),
        ("convnext_atto", 5),
        ("pvt_v2_b0", 8),
        ("resnet18", 8),
    ):
        model = build(name)
        rules = {r.name: r.lr_scale for _, r in parameter_rules(torch.nn.ModuleDict({"b": model}), 0.05, 0.5)}
        scales = {plain_name(k.removeprefix("b.network.")): v for k, v in rules.items()}
        assert max(scales.values()) == 0.5  # the last block; heads have 1
        first = min(scales.values())
        assert first == 0.5 ** (number + 1) and len(set(scales.values())) == number + 1
    swin = {
        plain_name(n): i
        for n, i in layer_ids(
            [n for n, _ in build("swin_tiny_patch4_window7_224").network.named_parameters()]
        )[0].items()
    }
    assert swin["patch_embed.proj.weight"] == 0 and swin["layers.0.blocks.1.mlp.fc1.weight"] == 2
    assert swin["layers.1.downsample.norm.weight"] == 2 and swin["layers.1.blocks.0.norm1.weight"] == 3
    pvt = {
        plain_name(n): i
        for n, i in layer_ids([n for n, _ in build("pvt_v2_b0").network.named_parameters()])[0].items()
    }
    assert pvt["stages.0.norm.weight"] == 2 == pvt["stages.1.downsample.proj.weight"]
    with_merges = parameter_rules(build("swin_tiny_patch4_window7_224"), 0.05, 0.5, count_merges=True)
    assert min(r.lr_scale for _, r in with_merges) == 0.5**12


def test_unusual_names_take_timms_own_layers():
    model = TimmBackbone("vgg11")
    rules = [r.lr_scale for _, r in parameter_rules(torch.nn.ModuleDict({"b": model}), 0.05, 0.5)]
    assert len(set(rules)) > 3 and max(rules) == 1.0


def test_files_of_detectors_classifiers_and_of_timm(tmp_path):
    """What lies where in a file does not matter, but for another size of the network."""
    torch.manual_seed(1)
    plain = timm.create_model("swin_tiny_patch4_window7_224", num_classes=3, **{**SWIN, "window_size": 7})
    detector = torch.nn.ModuleDict(
        {
            "backbone": FPN(build("swin_tiny_patch4_window7_224"), ["res2", "res3"], 8),
            "head": torch.nn.Linear(2, 2),
        }
    )
    torch.save(plain.state_dict(), tmp_path / "timm.pth")
    Checkpointer(detector).load(str(tmp_path / "timm.pth"), checkpointables=[])
    table = "layers.0.blocks.0.mlp.fc1.weight"
    inside = detector["backbone"].bottom_up.network.model
    assert torch.equal(inside.get_parameter(table), plain.get_parameter(table))
    # from detector to detector the other parts go as well, where they fit
    other = torch.nn.ModuleDict(
        {
            "backbone": FPN(build("swin_tiny_patch4_window7_224"), ["res2", "res3"], 8),
            "head": torch.nn.Linear(2, 5),
        }
    )
    torch.nn.init.zeros_(other["backbone"].fpn_lateral2.weight)
    report = load_pretrained(other, {"model": detector.state_dict()})
    assert torch.equal(other["backbone"].fpn_lateral2.weight, detector["backbone"].fpn_lateral2.weight)
    assert [r.split(":")[0] for r in report.mismatched] == ["head.weight", "head.bias"] == report.missing
    # the file of the detector is known without a model
    torch.save({"model": detector.state_dict()}, tmp_path / "detector.pth")
    assert inspect(tmp_path / "detector.pth").layout == "timm, under backbone.bottom_up.network"
    convert(tmp_path / "detector.pth", tmp_path / "again.safetensors")
    assert load_state_file(tmp_path / "again.safetensors").keys() == detector.state_dict().keys()
    # a bare network of fewer stages leaves the rest in the file
    short = TimmBackbone("swin_tiny_patch4_window7_224", out_indices=[0, 1], options=SWIN)
    report = load_pretrained(short, tmp_path / "timm.pth")
    assert not report.missing and any(k.startswith("layers.2.") for k in report.unexpected)
    deeper = TimmBackbone("swin_tiny_patch4_window7_224", options={**SWIN, "depths": (2, 2, 4, 2)})
    before = copy.deepcopy(deeper.state_dict())
    with pytest.raises(CheckpointError, match="another size or kind"):
        load_pretrained(deeper, tmp_path / "timm.pth")
    assert all(torch.equal(v, before[k]) for k, v in deeper.state_dict().items())
    shallow = TimmBackbone("swin_tiny_patch4_window7_224", options={**SWIN, "depths": (2, 2, 1, 2)})
    with pytest.raises(CheckpointError, match="another size or kind"):
        load_pretrained(shallow, tmp_path / "timm.pth")


def test_official_pvt_names(tmp_path):
    """FastMIM's PVTv2 has the names of its authors: as timm's own conversion has them."""
    from timm.models.pvt_v2 import checkpoint_filter_fn

    model = timm.create_model("pvt_v2_b0", num_classes=3)
    official = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[0] == "patch_embed":
            key = f"patch_embed1.{'.'.join(parts[1:])}"
        elif parts[0] == "stages":
            stage, rest = int(parts[1]) + 1, ".".join(parts[3:])
            key = {"downsample": f"patch_embed{stage}", "blocks": f"block{stage}", "norm": f"norm{stage}"}[
                parts[2]
            ] + f".{rest}"
        official[key] = torch.randn_like(value)
    report = load_pretrained(model, {"model": official})
    assert report.layout.startswith("PVTv2") and not report.missing and not report.unexpected
    expected = checkpoint_filter_fn(dict(official), model)
    assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "hiera_tiny_224", "beit_base_patch16_224"])
def test_encoders_of_one_size_get_it_by_themselves(name):
    options = {"swin_tiny_patch4_window7_224": {**SWIN, "window_size": 7}, "hiera_tiny_224": HIERA}.get(
        name, VIT
    )
    torch.manual_seed(0)
    encoder = TimmEncoder(name, **options)
    kept = encoder.backbone.model.patch_embed.proj.weight
    for size in (128, 192):
        replaced = encoder.set_input_size((size, size))
        assert all("pos_embed" in n or "bias_table" in n for n in replaced) and replaced
        tokens = encoder(torch.randn(1, 3, size, size))
        assert tokens.shape == (1, (size // encoder.stride) ** 2, encoder.width)
        assert encoder.backbone.model.patch_embed.proj.weight is kept  # the optimizer still has it
    if "swin" not in name:
        with pytest.raises(ValueError, match="images of 64x64 pixels: .* built for 192x192"):
            encoder(torch.randn(1, 3, 64, 64))


def test_swin_windows_of_a_timm_encoder_are_those_of_the_swin_encoder():
    a = TimmEncoder("swin_base_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=8, num_heads=(1, 1, 1, 1))
    b = SwinEncoder(depths=(1, 1, 1, 1), embed_dim=8, num_heads=(1, 1, 1, 1), img_size=224, window_size=7)
    for size in (128, 192):
        windows = []
        for network in (a, b):
            network.set_input_size((size, size))
            inner = getattr(network.backbone, "model", network.backbone)
            windows.append([stage.blocks[0].window_size for stage in inner.layers])
        assert windows[0] == windows[1]


def test_classifiers():
    network = timm_classifier("vit_tiny_patch16_224", 5, img_size=64, head_std=1e-5, options=VIT)
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    assert network.head.weight.std() < 2e-5
    with pytest.raises(ValueError, match="no network 'vit'"):
        timm_classifier("vit", 5)


@pytest.mark.parametrize(
    ("builder", "name", "levels"),
    [
        ("build_timm_backbone", "resnet18", ["res2", "res3", "res4", "res5"]),
        ("build_timm_fpn_backbone", "swin_tiny_patch4_window7_224", ["p2", "p3", "p4", "p5", "p6"]),
        ("build_timm_simple_pyramid_backbone", "vit_tiny_patch16_224", ["p2", "p3", "p4", "p5", "p6"]),
    ],
)
def test_yacs(builder, name, levels):
    cfg = add_itpn_config(get_cfg())
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.TIMM.NAME = name
    cfg.MODEL.TIMM.LEVEL_NORMS = True
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    options = {"swin_tiny_patch4_window7_224": SWIN, "vit_tiny_patch16_224": VIT}.get(name, {})
    for key, value in options.items():
        cfg.MODEL.TIMM.OPTIONS[key.upper()] = value
    model = build_backbone(cfg)
    outputs = model(torch.randn(1, 3, 64, 64))
    assert list(outputs) == list(model.output_shape()) == levels


YAML = """
MODEL:
  META_ARCHITECTURE: GeneralizedRCNN
  WEIGHTS: ""
  BACKBONE: {NAME: build_timm_fpn_backbone}
  TIMM: {NAME: swin_tiny_patch4_window7_224, DROP_PATH: 0.1, LEVEL_NORMS: True, CHECKPOINTING: True,
         OPTIONS: {EMBED_DIM: 16, DEPTHS: [1, 1, 2, 1], NUM_HEADS: [1, 2, 4, 8]}}
  FPN: {OUT_CHANNELS: 16, IN_FEATURES: [res2, res3, res4, res5]}
  ANCHOR_GENERATOR: {SIZES: [[32], [64], [128], [256], [512]]}
  RPN: {IN_FEATURES: [p2, p3, p4, p5, p6]}
  ROI_HEADS: {NAME: StandardROIHeads, IN_FEATURES: [p2, p3, p4, p5]}
  ROI_BOX_HEAD: {NAME: FastRCNNConvFCHead, NUM_FC: 1, FC_DIM: 16, POOLER_RESOLUTION: 7}
DATASETS: {TRAIN: [coco_2017_train], TEST: [coco_2017_val]}
SOLVER: {LAYER_DECAY: 0.5}
VERSION: 2
"""


def test_a_yaml_config_as_the_engine_runs_it(tmp_path):
    path = tmp_path / "swin.yaml"
    path.write_text(YAML)
    cfg = load_config(str(path), ["MODEL.TIMM.FREEZE_AT", "1"])
    model = instantiate(cfg.model).eval()
    assert model.backbone.bottom_up.network.model.layers[2].blocks[0].dim == 64
    cfg.optimizer.params.model = model
    rates = {group["lr"] for group in instantiate(cfg.optimizer).param_groups}
    assert max(rates) == cfg.optimizer.lr and min(rates) == pytest.approx(cfg.optimizer.lr * 0.5**5)
    with torch.no_grad():
        assert "instances" in model([{"image": torch.zeros(3, 70, 90)}])[0]
