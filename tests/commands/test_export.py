"""Exported models give what eager gives, at sizes they were not exported with."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from omegaconf import OmegaConf

from itpn_d2 import create_model
from itpn_d2.checkpoint import atomic_save
from itpn_d2.commands import export
from itpn_d2.engine import load_config
from itpn_d2.errors import ConfigError
from itpn_d2.export.check import difference
from itpn_d2.export.formats import FORMATS, formats_of, load_program, write_program
from itpn_d2.export.subjects import Features

QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "Quickstart"
SMALL = [
    "model.backbone.channels=[16,32,64]",
    "model.backbone.depths=[1,1,1]",
    "model.backbone.num_heads=2",
    "model.backbone.fpn_dim=32",
]

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(p) is None for p in ("onnx", "onnxruntime", "onnxscript")),
    reason="needs the extra 'export'",
)


@pytest.fixture
def command(trained, tmp_path):
    """Runs the tool; its exit status, and the results by format."""

    def run(*formats, options=()):
        fixed = ["--config-file", str(trained / "config.yaml"), "--weights", str(trained / "model_final.pth")]
        fixed += ["--output", str(tmp_path), "--rounds", "1", "--formats", *formats, *options]
        status = export.main(fixed)
        return status, {row["name"]: row for row in json.loads((tmp_path / "export.json").read_text())}

    return run


def check(result, tmp_path, tolerance):
    assert result["reason"] is None
    assert set(result["differences"]) == {"320x384", "256x256", "512x320"}
    assert max(result["differences"].values()) <= tolerance
    assert all(ms > 0 for ms in (*result["eager_ms"].values(), *result["exported_ms"].values()))
    assert (tmp_path / result["file"]).stat().st_size == round(result["mib"] * 2**20)


def test_program(command, tmp_path):
    status, results = command("program")
    assert status == 0
    check(results["program"], tmp_path, 1e-4)
    assert "| program | model_features.pt2" in (tmp_path / "export.md").read_text()


@needs_onnx
@pytest.mark.parametrize("name", ["onnx", "detector-onnx"])
def test_onnx(command, tmp_path, name):
    status, results = command(name)
    assert status == 0
    check(results[name], tmp_path, 1e-4 if name == "onnx" else 1e-2)


@pytest.mark.slow
def test_compiled_package(command, tmp_path):
    status, results = command("aoti")
    assert status == 0
    check(results["aoti"], tmp_path, 1e-4)


def test_the_whole_detector(command, tmp_path):
    status, results = command("torchscript")
    assert status == 0
    check(results["torchscript"], tmp_path, 1e-2)


@pytest.fixture(scope="module", params=["dino", "mask_dino"])
def queries(request):
    """The config of a small DINO that has learnt nothing, and the model."""
    cfg = load_config(str(QUICKSTART / f"{request.param}_fast_itpn_nano.py"), SMALL)
    cfg.dataset.num_classes = 3
    torch.manual_seed(0)
    return cfg, instantiate(cfg.model)


@pytest.mark.parametrize(
    "name", ["queries-program", pytest.param("queries-onnx", marks=[needs_onnx, pytest.mark.slow])]
)
def test_a_whole_dino(queries, tmp_path, name):
    """Up to its queries, at the size it was exported with."""
    cfg, model = queries
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    atomic_save({"model": model.state_dict()}, tmp_path / "model.pth")
    fixed = ["--config-file", str(tmp_path / "config.yaml"), "--weights", str(tmp_path / "model.pth")]
    fixed += ["--output", str(tmp_path), "--rounds", "1", "--sizes", "64x96", "96x96", "--formats", name]
    assert export.main(fixed) == 0
    (result,) = json.loads((tmp_path / "export.json").read_text())
    assert list(result["differences"]) == ["64x96"] and result["differences"]["64x96"] <= 1e-4


PUBLISHED = {  # as a published checkpoint of either needs it
    "dino": {
        "reference": "detrex",
        "groups": 8,
        "encoder": {"temperature": 10000.0, "interleaved": True},
        "decoder": {"refine_normed": False, "share_heads": False},
    },
    "mask_dino": {
        "reference": "maskdino",
        "groups": 8,
        "encoder": {"temperature": 10000.0, "centred": False, "interleaved": True},
        "decoder": {"refine_normed": False},
        "shared_encoder_heads": True,
        "coarsest_first": True,
        "norm_twice": True,
        "box_init": "mask2box",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_dino_with_the_rules_of_a_published_one(kind, tmp_path):
    cfg = load_config(str(QUICKSTART / f"{kind}_fast_itpn_nano.py"), SMALL)
    cfg.dataset.num_classes = 3
    cfg.model = OmegaConf.merge(cfg.model, PUBLISHED[kind])
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    atomic_save({"model": model.state_dict()}, tmp_path / "model.pth")
    fixed = ["--config-file", str(tmp_path / "config.yaml"), "--weights", str(tmp_path / "model.pth")]
    fixed += ["--output", str(tmp_path), "--rounds", "1", "--sizes", "64x96", "--formats", "queries-program"]
    assert export.main(fixed) == 0
    (result,) = json.loads((tmp_path / "export.json").read_text())
    assert result["differences"]["64x96"] <= 1e-4


def test_formats_belong_to_models(queries, trained, command):
    assert "detector-onnx" not in formats_of(queries[1]) and "queries-onnx" in formats_of(queries[1])
    status, results = command("queries-program")
    assert status == 1 and "not for GeneralizedRCNN; it has program" in results["queries-program"]["reason"]


def with_statistics(backbone):
    """What a detector has of a backbone: it, and what images are normalised by."""
    model = torch.nn.Module()
    model.backbone = backbone.eval()
    model.register_buffer("pixel_mean", torch.full((3, 1, 1), 100.0))
    model.register_buffer("pixel_std", torch.full((3, 1, 1), 50.0))
    return model


@pytest.mark.parametrize("grid", [(14, 14), (12, 20)])
def test_positions_follow_the_size(grid, tmp_path):
    """Of the table's own grid, too, which eager does not resample."""
    torch.manual_seed(0)
    sizes = dict(channels=(8, 16, 32), depths=(1, 1, 1), num_heads=2, fpn_dim=16, pos_grid=grid)
    backbone = create_model("fast_itpn_nano", pyramid=True, **sizes)
    torch.nn.init.normal_(backbone.trunk.pos_embed)
    features = Features(with_statistics(backbone))
    write_program(features, 255 * torch.rand(1, 3, 128, 192), tmp_path / "p.pt2")
    run = load_program(tmp_path / "p.pt2")
    for size in ((128, 192), (224, 224), (192, 320)):
        image = 255 * torch.rand(1, 3, *size)
        with torch.no_grad():
            expected, found = features(image), run(image)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(expected, found, strict=True))


def test_a_format_that_fails_costs_the_others_nothing(command, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no\nsuch op")

    monkeypatch.setitem(
        FORMATS, "torchscript", FORMATS["torchscript"].__class__("detector", ".ts", fail, fail)
    )
    status, results = command("torchscript", "program")
    assert status == 1 and results["torchscript"]["reason"] == "RuntimeError: no such op"
    assert results["program"]["reason"] is None
    assert "torchscript: RuntimeError: no such op" in capsys.readouterr().err


def test_packages_that_are_not_there(command, monkeypatch):
    monkeypatch.setattr(FORMATS["onnx"], "needs", ("nothing_of_that_name",))
    status, results = command("onnx")
    assert status == 1 and "needs nothing_of_that_name" in results["onnx"]["reason"]


def test_too_large_a_difference_is_an_error(command, capsys):
    status, _ = command("program", options=["--tolerance=-1"])
    assert status == 1 and "differs by" in capsys.readouterr().err


def test_differences():
    a = [torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([1, 2]), torch.tensor([0.9, 0.2])]
    fields = ["pred_boxes", "pred_classes", "scores"]
    swapped = [x.flip(0) for x in a]
    assert difference(a, swapped, fields) == 0
    swapped[0] = swapped[0] + 0.5
    assert difference(a, swapped, fields) == 0.5
    with pytest.raises(ValueError, match="different shapes"):
        difference(a, [x[:1] for x in a], fields)


@pytest.mark.parametrize("size", ["320", "320x", "300x320", "32x320", "axb"])
def test_sizes_that_cannot_be(size):
    with pytest.raises(ConfigError, match=f"--sizes {size}"):
        export.sizes_of([size])


@pytest.mark.parametrize("example", [(64, 96), (128, 224)])
def test_a_program_holds_for_all_sizes_that_it_allows(example, tmp_path):
    """The coarsest levels have one row or column below 128 pixels."""
    torch.manual_seed(0)
    sizes = {"channels": (8, 16, 32), "depths": (1, 1, 1), "num_heads": 2, "fpn_dim": 16}
    features = Features(with_statistics(create_model("fast_itpn_nano", pyramid=True, **sizes)))
    write_program(features, 255 * torch.rand(1, 3, *example), tmp_path / "model.pt2")
    program = load_program(tmp_path / "model.pt2")
    for size in ((64, 64), (64, 128), (96, 64), (96, 96), (160, 64), (256, 320)):
        image = 255 * torch.rand(1, 3, *size)
        with torch.no_grad():
            expected = features(image)
        for found, wanted in zip(program(image), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
