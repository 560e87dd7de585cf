"""create_model with weights, timm's pretrained=True, and Detectron2's names of the zoo's functions."""

import logging
from pathlib import Path

import pytest
import timm
import torch

import itpn_d2
from itpn_d2 import create_model, model_zoo
from itpn_d2.backbone import IntegralBackbone, Trunk, TrunkClassifier
from itpn_d2.errors import CheckpointError, UseError
from itpn_d2.model_zoo import Weights, entries
from itpn_d2.model_zoo.entries import WEIGHTS

MICRO = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2)
NANO = "fast_itpn_nano"


def same(model, other, start=""):
    state = other.state_dict()
    return all(torch.equal(v, state[k]) for k, v in model.state_dict().items() if k.startswith(start))


@pytest.fixture
def file(tmp_path):
    """A file of a model, with another content for each seed."""

    def write(seed=0, name="weights.pth", variant=NANO, **options):
        torch.manual_seed(seed)
        model = create_model(variant, **{**MICRO, **options})
        torch.save({"model": model.state_dict()}, tmp_path / name)
        return model, tmp_path / name

    return write


@pytest.fixture
def listed(file, cache, monkeypatch):
    """A pre-training of nano that the zoo lists."""
    model, path = file(pyramid=True, fpn_dim=24)
    cache.mkdir(parents=True)
    path.rename(cache / "nano.pth")
    weights = Weights("nano.pth", "a test", "none")
    monkeypatch.setitem(WEIGHTS, "nano.pth", weights)
    monkeypatch.setitem(entries.PRETRAINED, NANO, weights)
    return model


def test_true_takes_what_the_zoo_lists(listed, caplog):
    with caplog.at_level(logging.INFO):
        backbone = create_model(NANO, pyramid=True, weights=True, **MICRO)
    assert isinstance(backbone, IntegralBackbone) and same(backbone, listed)
    assert backbone.pyramid.fpn_dim == 24  # the file's, since no argument says another
    assert "itpn://nano.pth" in caplog.text and "loaded" in caplog.text
    trunk = create_model(NANO, weights=True, **MICRO)
    assert isinstance(trunk, Trunk) and same(trunk, listed.trunk)
    classifier = create_model(NANO, num_classes=3, weights=True, **MICRO)
    assert isinstance(classifier, TrunkClassifier) and same(classifier.trunk, listed.trunk)
    assert same(model_zoo.get_backbone(NANO, weights=True, fpn_dim=24, **MICRO), listed)


def test_a_variant_without_published_weights():
    with pytest.raises(UseError, match="no published.*configs/Pretrain/pixel_mim_itpn_nano.py"):
        create_model("itpn_nano", weights=True)
    for weights in (None, False):
        assert isinstance(create_model(NANO, weights=weights, **MICRO), Trunk)


@pytest.mark.parametrize("kind", ["path", "text", "https", "hf", "itpn", "gdrive"])
def test_every_address(kind, file, site, cache, monkeypatch):
    model, path = file()
    weights = {"path": path, "text": str(path), "itpn": "itpn://nano.pth"}.get(kind)
    if kind == "https":
        monkeypatch.setenv("FVCORE_CACHE", str(cache / "fvcore"))
        site.files["/w.pth"], weights = path.read_bytes(), f"{site.address}/w.pth"
    elif kind == "itpn":
        site.files["/nano.pth"] = path.read_bytes()
        monkeypatch.setitem(WEIGHTS, "nano.pth", Weights("nano.pth", "a", "b", f"{site.address}/nano.pth"))
    elif kind in ("hf", "gdrive"):
        place, weights = {
            "hf": (cache / "hub/org/name/w.pth", "hf://org/name/w.pth"),
            "gdrive": (cache / "gdrive/abcdefgh", "gdrive://abcdefgh"),
        }[kind]
        place.parent.mkdir(parents=True)
        place.write_bytes(path.read_bytes())
    assert same(create_model(NANO, weights=weights, **MICRO), model)


def test_the_classes_of_a_fine_tuned_file(file):
    model, path = file(num_classes=7, pos_grid=(3, 2), pooling="norm_then_mean")
    again = create_model(NANO, weights=path, **MICRO)
    assert isinstance(again, TrunkClassifier) and same(again, model)
    image = torch.rand(1, 3, 48, 32)
    assert torch.equal(again.eval()(image), model.eval()(image))
    other = create_model(NANO, num_classes=4, weights=path, **MICRO)  # its head starts anew
    assert other.num_classes == 4 and same(other.trunk, model.trunk)
    backbone = create_model(NANO, pyramid=True, weights=path, pos_grid=(4, 4), **MICRO)
    assert same(backbone.trunk.stage3, model.trunk.stage3) and backbone.trunk.pos_embed.shape[1:3] == (4, 4)


def test_what_a_v1_file_says_of_its_trunk(file):
    model, path = file(variant="itpn_nano", pyramid=True, rel_pos="table", layer_scale=0.1, fpn_dim=16)
    again = create_model("itpn_nano", pyramid=True, weights=path, **MICRO)
    assert same(again, model) and again.trunk.has_relative_positions


def test_a_file_of_another_variant(file, tmp_path):
    _, path = file()
    with pytest.raises(CheckpointError, match=r"channels=\(8, 16, 32\)"):
        create_model(NANO, weights=path)
    with pytest.raises(CheckpointError, match="family='fast_itpn'"):
        create_model("itpn_nano", weights=path, **MICRO)
    with pytest.raises(CheckpointError, match="no such file"):
        create_model(NANO, weights=tmp_path / "none.pth")
    torch.save({"model": {"x": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="other.pth"):
        create_model(NANO, weights=tmp_path / "other.pth")
    with pytest.raises(KeyError, match="unknown variant"):
        create_model("fast_itpn_huge", weights=path)


def test_timm_loads_from_the_same_addresses(file, cache):
    """The files are of trunks of the published size but for the depth, which options reduce."""
    small = dict(depths=(1, 1, 1))
    model, path = file(variant="fast_itpn_tiny", channels=(96, 192, 384), num_heads=6, pyramid=True, **small)
    cache.mkdir(parents=True)
    path.rename(cache / "fast_itpn_tiny_1600e_1k.pt")
    loaded = timm.create_model("fast_itpn_tiny", pretrained=True, **small)
    assert same(loaded.trunk.stage3, model.trunk.stage3) and loaded.num_classes == 1000
    maps = timm.create_model("fast_itpn_tiny", pretrained=True, features_only=True, in_chans=1, **small)
    assert same(maps.model.trunk.stage1, model.trunk.stage1)
    bands = model.trunk.patch_embed.proj.weight.unflatten(1, (3, 16)).sum(1)
    assert torch.allclose(maps.model.trunk.patch_embed.proj.weight, bands)


def test_timm_says_where_a_file_could_be_placed():
    with pytest.raises(UseError, match="place fast_itpn_tiny_1600e_1k.pt at"):
        timm.create_model("fast_itpn_tiny", pretrained=True)


def test_detectron2s_names_of_the_functions():
    path = model_zoo.get_config_file("mask_rcnn_fast_itpn_base_1x")
    assert Path(path).is_file() and path.endswith("COCO-InstanceSegmentation/mask_rcnn_fast_itpn_base_1x.py")
    assert model_zoo.get_config_file("COCO-InstanceSegmentation/mask_rcnn_fast_itpn_base_1x.py") == path
    tiny = "itpn://fast_itpn_tiny_1600e_1k.pt"
    for name in ("Pretrain/distillation_fast_itpn_tiny.py", "fast_itpn_tiny"):
        assert model_zoo.get_checkpoint_url(name) == tiny
    for call, name in (
        (model_zoo.get_config_file, "nothing"),
        (model_zoo.get_checkpoint_url, "nothing"),
        (model_zoo.get_checkpoint_url, "mask_rcnn_fast_itpn_base_1x"),
        (model_zoo.get_checkpoint_url, "itpn_nano"),
    ):
        for kind in (RuntimeError, UseError):
            with pytest.raises(kind, match=name):
                call(name)


def test_configs_go_on_building_without_weights():
    cfg = model_zoo.get_config("Quickstart/mask_rcnn_fast_itpn_nano")
    assert cfg.model.backbone._target_ in (itpn_d2.backbone.create_model, "itpn_d2.backbone.create_model")
