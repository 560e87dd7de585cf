"""Pickles of numpy arrays, as Detectron2's zoo has them, and files with Detectron2's names."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.config import instantiate

from itpn_d2.checkpoint import Checkpointer, CheckpointError, atomic_save, load_pretrained, load_state_file
from itpn_d2.engine import load_config


@pytest.fixture
def detector(trained):
    """Builds a small Mask R-CNN."""
    cfg = load_config(str(trained / "config.yaml"))
    return lambda: instantiate(cfg.model)


def published(model, classes=5):
    """What Detectron2's converters write of a Mask R-CNN over a ResNet: its heads, and another backbone."""
    heads = {k: v.numpy() for k, v in model.state_dict().items() if not k.startswith(("backbone.", "pixel_"))}
    body = {
        f"backbone.bottom_up.res{i}.0.conv1.weight": np.ones((4, 4, 1, 1), np.float32) for i in range(2, 6)
    }
    fixed = {
        "pixel_mean": np.zeros((3, 1, 1), np.float32),
        "proposal_generator.anchor_generator.cell_anchors.0": np.zeros((3, 4)),
    }
    return {"model": {**heads, **body, **fixed}, "__author__": "Detectron2 Model Zoo"}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_kind(tmp_path, protocol):
    rng = np.random.default_rng(protocol)
    arrays = {
        "float": rng.normal(size=(3, 4)).astype(np.float32),
        "double": rng.normal(size=(2,)),
        "half": rng.normal(size=(2, 2)).astype(np.float16),
        "whole": rng.integers(-9, 9, (2, 3)),
        "bytes": rng.integers(0, 255, (5,), dtype=np.uint8),
        "truth": rng.random((4,)) > 0.5,
        "fortran": np.asfortranarray(rng.normal(size=(3, 4)).astype(np.float32)),
        "big": rng.normal(size=(3,)).astype(">f4"),
        "point": np.array(2.5, np.float32),
        "nothing": np.zeros((0, 3), np.float32),
    }
    content = {"model": arrays, "__author__": "x", "matching_heuristics": True, "number": np.float32(1.5)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    found = load_state_file(tmp_path / "x.pkl")
    assert found["number"] == 1.5 and found["matching_heuristics"] is True
    for name, array in arrays.items():
        read = found["model"][name]
        assert isinstance(read, torch.Tensor) and read.shape == array.shape, name
        assert np.array_equal(read.numpy(), array) and read.numpy().dtype == array.dtype.newbyteorder("="), (
            name
        )


@pytest.mark.parametrize(
    "array", [np.array([{}, 1], object), np.array(["a"]), np.ones(2, np.complex64), np.array([1], "M8[s]")]
)
def test_arrays_of_no_numbers_are_not_built(tmp_path, array):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": {"w": array}}, 2))
    assert repr(load_state_file(tmp_path / "x.pkl")["model"]["w"]) == "<not read>"


def test_the_heads_of_a_published_detector(tmp_path, detector):
    source, target = detector(), detector()
    (tmp_path / "model_final.pkl").write_bytes(pickle.dumps(published(source), 4))
    report = load_pretrained(target, tmp_path / "model_final.pkl")
    assert report.layout == "Detectron2" and not report.mismatched
    assert len(report.ignored) == 2 and all(k.startswith("backbone.bottom_up") for k in report.unexpected)
    assert all(k.startswith(("backbone.", "pixel_")) for k in report.missing)
    own = target.state_dict()
    assert report.loaded and all(torch.equal(own[k], source.state_dict()[k]) for k in report.loaded)
    with pytest.raises(
        CheckpointError, match=r"model_final.pkl: .*tensors of this model are missing.*backbone"
    ):
        Checkpointer(target).load(str(tmp_path / "model_final.pkl"), [], complete=True)


def test_nothing_of_it_fits(tmp_path):
    (tmp_path / "x.pkl").write_bytes(
        pickle.dumps({"model": {"roi_heads.box_head.fc1.weight": np.ones((2, 2))}})
    )
    with pytest.raises(CheckpointError, match="x.pkl: it contains a detector of Detectron2, but no tensor"):
        load_pretrained(torch.nn.Linear(2, 2), tmp_path / "x.pkl")


@pytest.mark.parametrize("wrapped", [True, False])
def test_blobs_of_caffe2(tmp_path, wrapped):
    blobs = {"conv1_w": np.ones((2, 3, 7, 7)), "res2_0_branch2a_w": np.ones(2), "res_conv1_bn_s": np.ones(2)}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": blobs} if wrapped else blobs, 2))
    with pytest.raises(CheckpointError, match="R-50.pkl: .*Caffe2.*c2_model_loading"):
        load_pretrained(torch.nn.Linear(2, 2), tmp_path / "R-50.pkl")


@pytest.mark.parametrize("key", ["net_params", "weights", "ema", "params"])
def test_unknown_wrappers_are_named(tmp_path, key):
    atomic_save({key: {"a.weight": torch.ones(2)}, "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(
        CheckpointError,
        match=rf"x.pth: no tensors at its top level.*{key} \(a dict of 1 tensors\), epoch \(int\)",
    ):
        load_pretrained(torch.nn.Linear(2, 2), tmp_path / "x.pth")
