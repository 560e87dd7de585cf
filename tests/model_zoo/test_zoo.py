"""From a name to a config, a model, a backbone, a predictor."""

import detectron2.model_zoo
import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec

from itpn_d2 import Predictor, create_model, model_zoo
from itpn_d2.backbone.backbone import ITPNBackbone
from itpn_d2.checkpoint import CheckpointError, atomic_save, from_native
from itpn_d2.model_zoo import Weights, ZooError
from itpn_d2.model_zoo.entries import ENTRIES, WEIGHTS

QUICKSTART = "Quickstart/mask_rcnn_fast_itpn_nano"
TINY = ["model.backbone.channels=[8,16,32]", "model.backbone.depths=[1,1,1]", "model.backbone.num_heads=2"]


def test_config():
    cfg = model_zoo.get_config("mask_rcnn_fast_itpn_base_1x", overrides=["train.max_iter=7"])
    assert cfg.model.backbone.name == "fast_itpn_base" and cfg.train.max_iter == 7
    assert cfg.train.init_checkpoint == ""
    assert model_zoo.get_config("distillation_fast_itpn_tiny", trained=True).train.init_checkpoint == (
        "itpn://fast_itpn_tiny_1600e_1k.pt"
    )


def test_without_published_weights_the_error_says_how_to_get_some():
    with pytest.raises(ZooError) as caught:
        model_zoo.get("mask_rcnn_fast_itpn_tiny_1x", trained=True)
    for words in (
        "no published weights",
        "train_net.py --config-file configs/COCO-InstanceSegmentation/mask_rcnn_fast_itpn_tiny_1x.py",
        "train.init_checkpoint=itpn://fast_itpn_tiny_1600e_1k.pt",
    ):
        assert words in str(caught.value)
    with pytest.raises(ZooError, match="python -m pretrain --config-file configs/Pretrain/mfm_itpn_base.py"):
        model_zoo.get("mfm_itpn_base", trained=True)


def test_detectron2s_own_zoo_goes_on_working():
    cfg = detectron2.model_zoo.get_config(
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", trained=True
    )
    assert cfg.MODEL.WEIGHTS.startswith("https://") and cfg.MODEL.MASK_ON
    lazy = detectron2.model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py")
    assert "roi_heads" in lazy.model


def test_get_loads_a_trained_model_exactly(tmp_path):
    torch.manual_seed(0)
    model = model_zoo.get(QUICKSTART, device="cpu", overrides=TINY)
    assert model.training and model.roi_heads.num_classes == 5
    atomic_save({"model": model.state_dict()}, tmp_path / "model_final.pth")
    again = model_zoo.get(QUICKSTART, device="cpu", weights=tmp_path / "model_final.pth", overrides=TINY)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_trained_weights_of_an_entry(tmp_path, monkeypatch, cache):
    """As if somebody published some."""
    model = model_zoo.get(QUICKSTART, device="cpu", overrides=TINY)
    atomic_save({"model": model.state_dict()}, cache / "quickstart.pth")
    weights = Weights("quickstart.pth", "a test", "none")
    entry = ENTRIES[QUICKSTART]
    monkeypatch.setitem(ENTRIES, QUICKSTART, type(entry)(**{**vars(entry), "weights": weights}))
    monkeypatch.setitem(WEIGHTS, "quickstart.pth", weights)
    again = model_zoo.get(QUICKSTART, trained=True, device="cpu", overrides=TINY).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def test_classes_of_your_data_have_to_be_counted():
    with pytest.raises(ZooError, match="dataset.num_classes=N"):
        model_zoo.get("Custom/mask_rcnn_fast_itpn_nano")
    model = model_zoo.get("Custom/mask_rcnn_fast_itpn_nano", overrides=["dataset.num_classes=3", *TINY])
    assert model.roi_heads.num_classes == 3


def test_weights_of_another_model(tmp_path):
    other = create_model("fast_itpn_nano", channels=(16, 32, 64), depths=(1, 1, 1), num_heads=2)
    atomic_save({"model": other.state_dict()}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="channels"):
        model_zoo.get(QUICKSTART, device="cpu", weights=tmp_path / "other.pth", overrides=TINY)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("mask_rcnn_fast_itpn_tiny_1x", "fast_itpn_tiny"),
        ("cascade_mask_rcnn_itpn_clip_base_3x", "itpn_base"),
        ("fast_itpn_tiny_384", "fast_itpn_tiny"),
        ("linear_probe_fast_itpn_base", "fast_itpn_base"),
        ("itpn_base_clip_224", "itpn_base"),
        ("distillation_fast_itpn_tiny", "fast_itpn_tiny"),
        ("clip_distillation_itpn_base", "itpn_base"),
        ("fastmim_hog_fast_itpn_tiny", "fast_itpn_tiny"),
        ("fast_itpn_large", "fast_itpn_large"),
    ],
)
def test_backbone(name, variant):
    with torch.device("meta"):
        backbone = model_zoo.get_backbone(name)
        plain = create_model(variant)
    assert isinstance(backbone, ITPNBackbone)
    assert backbone.trunk.channels == plain.channels and backbone.trunk.depths == plain.depths
    assert backbone.output_shape()["p2"] == ShapeSpec(channels=256, stride=4)
    grid = (24, 24) if "384" in name else (8, 8) if "fastmim" in name else (14, 14)
    assert tuple(backbone.trunk.pos_embed.shape[1:3]) == grid


@pytest.mark.slow
def test_every_entry_of_ours_has_a_backbone():
    with torch.device("meta"):
        for name in model_zoo.list():
            if any(network in name for network in ("vit", "swin", "convnext")):
                with pytest.raises(ZooError, match="model_zoo.get builds it"):
                    model_zoo.get_backbone(name)
            elif "large" not in name:
                model_zoo.get_backbone(name)


def test_backbone_from_an_official_file(cache):
    """An entry without weights takes the file of its start."""
    torch.manual_seed(0)
    sizes = dict(channels=(8, 16, 32), depths=(1, 1, 1), num_heads=2)
    source = create_model("fast_itpn_tiny", pyramid=True, **sizes)
    atomic_save({"module": from_native(source.state_dict())}, cache / "fast_itpn_tiny_1600e_1k.pt")
    backbone = model_zoo.get_backbone("mask_rcnn_fast_itpn_tiny_1x", weights=True, **sizes)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


def test_published_weights_of_what_has_none():
    with pytest.raises(ZooError, match="no published"):
        model_zoo.get_backbone("itpn_nano", weights=True)
    with pytest.raises(ZooError, match="no published"):
        model_zoo.get_backbone("Pretrain/mfm_fast_itpn_nano", weights=True)


@pytest.mark.parametrize("name", ["Pretrain/pixel_mim_fast_itpn_nano", "Pretrain/fastmim_hog_fast_itpn_nano"])
def test_of_a_pretraining_the_backbone_remains(name):
    assert isinstance(model_zoo.get(name, device="cpu"), ITPNBackbone)


def test_networks_of_timm(tmp_path):
    network = model_zoo.get("fastmim_hog_vit_base", device="cpu", overrides=["model.encoder.depth=1"])
    assert type(network).__name__ == "VisionTransformer" and len(network.blocks) == 1


def test_predictor_of_a_detector(tmp_path):
    torch.manual_seed(0)
    model = model_zoo.get(QUICKSTART, device="cpu", overrides=TINY)
    atomic_save({"model": model.state_dict()}, tmp_path / "w.pth")
    few = [*TINY, "model.roi_heads.box_predictor.test_score_thresh=0.0"]
    predict = Predictor(QUICKSTART, weights=tmp_path / "w.pth", device="cpu", overrides=few)
    assert not predict.model.training
    assert predict.metadata.thing_classes == ["disc", "square", "triangle", "star", "ring"]
    found = predict(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))["instances"]
    assert found.image_size == (90, 120) and len(found) > 0
    assert found.pred_masks.shape[1:] == (90, 120) and float(found.pred_boxes.tensor[:, 2].max()) <= 120


def test_predictor_without_weights():
    with pytest.raises(ZooError, match="no published"):
        Predictor("mask_rcnn_fast_itpn_tiny_1x")
    with pytest.raises(ZooError, match="predicts nothing"):
        Predictor("distillation_fast_itpn_tiny")
