"""Published DINO and Mask DINO checkpoints: names there and back, sizes found, heads under other
backbones."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.structures import ImageList
from safetensors.torch import load_file
from torch import nn

from itpn_d2 import create_model
from itpn_d2.checkpoint import (
    CheckpointError,
    convert,
    create_from_checkpoint,
    from_native_detector,
    inspect,
    load_pretrained,
    to_native_detector,
)
from itpn_d2.meta_arch import DINO, MaskDINO
from tests.meta_arch.small_dino import dino

FIXTURES = Path(__file__).resolve().parents[1] / "data" / "fixtures"
NAMES = ("dino_detrex", "dino_official", "maskdino_instance", "maskdino_panoptic", "maskdino_semantic")
SMALL = {"num_heads": 4, "groups": 8}  # what no shape shows, and the files have smaller than published ones


def fixture(name):
    tensors = load_file(FIXTURES / f"{name}.safetensors")
    weights = {k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")}
    return tensors, weights, json.loads((FIXTURES / f"{name}.json").read_text())["build"]


class Stored(Backbone):
    """Detectron2's way of naming, and the maps of a fixture."""

    def __init__(self, build, tensors, channels=None):
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 1)
        self.maps = {k: tensors[f"input/{k}"] for k in build["in_features"]}
        parts = zip(build["in_features"], channels or build["in_channels"], build["strides"], strict=True)
        self.shapes = {k: ShapeSpec(channels=c, stride=s) for k, c, s in parts}

    def output_shape(self):
        return self.shapes

    def forward(self, x):
        return self.maps


@pytest.mark.parametrize("name", NAMES)
def test_names_there_and_back(name):
    """Bit for bit, with every name that a module has there."""
    _, weights, build = fixture(name)
    mapped = to_native_detector(weights, build["num_heads"])
    assert mapped.layout == {"dino_detrex": "detrex", "dino_official": "dino"}.get(name, "maskdino")
    assert mapped.feature_order == build.get("feature_order")
    back = from_native_detector(
        mapped.state, mapped.layout, build["num_heads"], mapped.feature_order or "low2high"
    )
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[k], weights[k]) for k in back)


@pytest.mark.parametrize(
    ("name", "prefix", "options"),
    [
        ("dino_detrex", "output/unmasked/100x150/", {}),
        ("dino_official", "output/padded/100x150/", {}),
        ("maskdino_instance", "output/default/96x128/", {"num_queries": 16}),
        (
            "maskdino_panoptic",
            "output/default/96x128/",
            {"num_queries": 16, "task": "panoptic", "num_classes": 4},
        ),
        ("maskdino_semantic", "output/default/96x128/", {}),
    ],
)
def test_a_model_of_a_file_computes_what_the_reference_does(name, prefix, options):
    tensors, weights, build = fixture(name)
    content = {"model": {**weights, "backbone.stem.weight": torch.ones(2, 3, 1, 1)}, "iteration": 7}
    model = create_from_checkpoint(content, backbone=Stored(build, tensors), **SMALL, **options).eval()
    assert type(model) is (MaskDINO if name.startswith("mask") else DINO)
    assert (model.backbone.stem.weight == 1).all()
    size = tensors[f"{prefix}boxes"].new_zeros(2, 3, *map(int, prefix.split("/")[-2].split("x")))
    variant = next(v for v in build["variants"].values() if v["cases"][0]["prefix"] == prefix)
    with torch.no_grad():
        found = model.detect(ImageList(size, [tuple(s) for s in variant["image_sizes"]]))
    torch.testing.assert_close(found.logits, tensors[f"{prefix}logits"][-1], atol=2e-5, rtol=0)
    torch.testing.assert_close(found.boxes, tensors[f"{prefix}boxes"][-1], atol=2e-5, rtol=0)
    if found.masks is not None:
        masks = torch.stack([found.masks.of(i) for i in range(2)])
        torch.testing.assert_close(masks, tensors[f"{prefix}masks"][-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["dino_detrex", "dino_official", "maskdino_instance"])
def test_heads_under_another_backbone_and_for_other_classes(name):
    """All but what reads its maps and names the classes; each of those is a row."""
    tensors, weights, build = fixture(name)
    channels = [c + 4 for c in build["in_channels"]]
    options = {"num_classes": 2, "denoising": {"number": 5}}
    model = create_from_checkpoint(weights, backbone=Stored(build, tensors, channels), **SMALL, **options)
    report = load_pretrained(model, {"model": {**weights, "backbone.res2.x": torch.ones(3)}})
    assert report.layout == model.reference.name and not report.hints
    rows = {row.split(":")[0] for row in report.mismatched}
    starts = ("neck.project", "neck.extra.0.0.weight", "pixel_features.lateral.0", "class_head", "denoising")
    assert rows and all(r.startswith((*starts, "selection.class_head")) for r in rows)
    assert report.unexpected == ["backbone.res2.x"]
    own = model.state_dict()
    mapped = to_native_detector(weights, 4).state
    assert torch.equal(own["decoder.layers.1.norm2.weight"], mapped["decoder.layers.1.norm2.weight"])
    assert "backbone.stem.weight" in report.missing


def test_what_no_shape_shows_is_a_hint():
    tensors, weights, build = fixture("dino_official")
    model = create_from_checkpoint(weights, backbone=Stored(build, tensors), **SMALL, reference=None)
    model.encoder.temperature = 10000.0
    hints = load_pretrained(model, weights).hints
    assert hints == [
        "it was trained with reference='dino', but the model has None",
        "it was trained with encoder.temperature=20.0, but the model has 10000.0",
    ]


def test_another_size_is_refused():
    tensors, weights, build = fixture("dino_detrex")
    model = dino()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"another size or kind .*build it so.*create_from_checkpoint"):
        load_pretrained(model, weights)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    del weights["transformer.decoder.norm.weight"]
    with pytest.raises(CheckpointError, match=r"decoder\.norm\.weight"):
        create_from_checkpoint(weights, backbone=Stored(build, tensors), **SMALL)


def test_what_has_to_be_said_is_said(tmp_path):
    tensors, weights, build = fixture("maskdino_panoptic")
    torch.save({"model": weights}, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=r"file.pth: it holds a Mask DINO: dim 32.*backbone=\.\.\."):
        create_from_checkpoint(tmp_path / "file.pth", num_heads=4)
    with pytest.raises(CheckpointError, match="how many of the 7 classes are things"):
        create_from_checkpoint(weights, backbone=Stored(build, tensors), task="panoptic", **SMALL)
    with pytest.raises(CheckpointError, match="feature_order='high2low': the channels.*'low2high'"):
        create_from_checkpoint(weights, backbone=Stored(build, tensors), feature_order="high2low", **SMALL)
    with pytest.raises(CheckpointError, match="which 5 heads.*num_heads"):
        create_from_checkpoint(weights, backbone=Stored(build, tensors), num_heads=5)


def test_two_further_levels_of_mask_dino_are_refused():
    _, weights, _ = fixture("maskdino_instance")
    start = "sem_seg_head.pixel_decoder.input_proj"
    weights |= {
        f"{start}.4.{k}": weights[f"{start}.3.{k}"] for k in ("0.weight", "0.bias", "1.weight", "1.bias")
    }
    with pytest.raises(CheckpointError, match="2 further levels"):
        to_native_detector(weights, 4)


def test_maps_of_equal_channels_take_the_order_that_is_given():
    _, weights, _ = fixture("maskdino_semantic")
    for k in range(3):
        weights[f"sem_seg_head.pixel_decoder.input_proj.{k}.0.weight"] = torch.full((32, 9, 1, 1), float(k))
    mapped = to_native_detector(weights, 4, "high2low")
    assert mapped.feature_order == "high2low"
    assert [float(mapped.state[f"neck.project.{k}.0.weight"].mean()) for k in range(3)] == [2, 1, 0]
    assert to_native_detector(weights, 4).feature_order == "low2high"


def test_a_layout_without_a_place_is_said():
    _, weights, _ = fixture("dino_official")
    state = to_native_detector(weights, 4).state
    with pytest.raises(CheckpointError, match="no place for mask_head"):
        from_native_detector({**state, "mask_head.0.weight": torch.zeros(1)}, "dino", 4)
    with pytest.raises(CheckpointError, match="choose detrex"):
        from_native_detector(state, "detr", 4)
    with pytest.raises(CheckpointError, match="no published DINO"):
        to_native_detector({"a.b": torch.zeros(1)})


@pytest.mark.parametrize("name", NAMES)
def test_files_there_and_back(name, tmp_path):
    """In our names, with the backbone as it is, and from that into a model; or in its own names again."""
    tensors, weights, build = fixture(name)
    state = {**weights, "backbone.stem.weight": torch.ones(2, 3, 1, 1)}
    torch.save({"model": state, "iteration": 3}, tmp_path / "a.pth")
    seen = inspect(tmp_path / "a.pth", num_heads=4)
    assert "4 heads x 4 points" in seen.contents and "backbone.stem.weight" in seen.written
    left = {k for k in build["aliases"] if k.startswith(("transformer.", "sem_seg_head."))}
    assert set(seen.left_out) == {*left, "(iteration)"}  # further names of modules that are shared
    convert(tmp_path / "a.pth", tmp_path / "ours.safetensors", num_heads=4)
    ours = load_file(tmp_path / "ours.safetensors")
    task = {"task": "panoptic", "num_classes": 4} if name == "maskdino_panoptic" else {}
    model = create_from_checkpoint(state, backbone=Stored(build, tensors), **SMALL, **task)
    missing = model.load_state_dict(ours, strict=False)
    assert missing.missing_keys == ["backbone.stem.bias"] and not missing.unexpected_keys
    convert(tmp_path / "a.pth", tmp_path / "b.safetensors", "official", num_heads=4)
    back = load_file(tmp_path / "b.safetensors")
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in back)


def test_a_model_without_such_heads_says_what_to_do():
    _, weights, _ = fixture("dino_detrex")
    with pytest.raises(CheckpointError, match="layout detrex: load it into a DINO .*backbone="):
        load_pretrained(create_model("fast_itpn_nano", pyramid=True), weights)
