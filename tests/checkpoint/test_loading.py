"""Files in, reports out; hostile files refused before anything is touched."""

import argparse
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from itpn_d2 import create_model
from itpn_d2.checkpoint import (
    CheckpointError,
    atomic_save,
    create_from_checkpoint,
    find_state,
    from_native,
    load_pretrained,
    load_state_file,
    unwrap,
)

MICRO = dict(channels=(8, 16, 32), depths=(1, 1, 2), num_heads=2)


def backbone(grid=(4, 4)):
    return create_model("fast_itpn_nano", pyramid=True, fpn_dim=24, pos_grid=grid, **MICRO)


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(1)
    return backbone()


def official(model):
    return from_native({k: v for k, v in model.state_dict().items()})


@pytest.mark.parametrize("wrapper", ["module", "model", "state_dict", None])
@pytest.mark.parametrize("half", [True, False])
def test_every_wrapping(tmp_path, source, wrapper, half):
    state = {k: v.half() if half else v for k, v in official(source).items()}
    state["mask_token"] = torch.zeros(1, 1, 128)
    path = tmp_path / "fast_itpn.pt"
    content = {wrapper: state, "epoch": 3, "args": argparse.Namespace(lr=0.1)} if wrapper else state
    torch.save(content, path)
    target = backbone()
    report = load_pretrained(target, path)
    assert report.ignored == ["mask_token"] and not report.missing and not report.unexpected
    for a, b in zip(target.state_dict().values(), source.state_dict().values(), strict=True):
        assert a.dtype == torch.float32
        assert torch.allclose(a, b, atol=1e-3 if half else 0)


def test_safetensors(tmp_path, source):
    save_file(official(source), tmp_path / "x.safetensors")
    assert not load_pretrained(backbone(), tmp_path / "x.safetensors").missing


def test_data_parallel_prefix(source):
    state = {f"module.{k}": v for k, v in official(source).items()}
    assert not load_pretrained(backbone(), {"model": state}).missing


def test_position_table_is_resized_and_said(source):
    target = backbone((6, 3))
    report = load_pretrained(target, dict(source.state_dict()))
    assert report.adapted == ["trunk.pos_embed: grid 4x4 -> 6x3, bicubic"]
    assert "adapted" in str(report) and target.trunk.pos_embed.shape == (1, 6, 3, 32)


def test_classifier_into_backbone_and_back(source):
    classifier = create_model("fast_itpn_nano", num_classes=5, pos_grid=(4, 4), **MICRO)
    report = load_pretrained(backbone(), from_native(classifier.state_dict()))
    assert {k.split(".")[0] for k in report.missing} == {"pyramid", "trunk"}  # trunk.norm is fresh
    assert [k for k in report.missing if k.startswith("trunk.")] == ["trunk.norm.weight", "trunk.norm.bias"]
    assert {k.split(".")[0] for k in report.unexpected} == {"fc_norm", "head"}
    report = load_pretrained(classifier, official(source))
    assert {k.split(".")[0] for k in report.missing} == {"fc_norm", "head"}


def test_other_number_of_classes_is_mismatched():
    a = create_model("fast_itpn_nano", num_classes=5, **MICRO)
    b = create_model("fast_itpn_nano", num_classes=7, **MICRO)
    before = b.head.weight.clone()
    report = load_pretrained(b, dict(a.state_dict()))
    assert len(report.mismatched) == 2 and torch.equal(b.head.weight, before)


def test_backbone_into_detector_and_out(source):
    detector = torch.nn.ModuleDict({"backbone": backbone(), "head": torch.nn.Linear(2, 2)})
    report = load_pretrained(detector, official(source))
    assert set(report.missing) == {"head.weight", "head.bias"}
    report = load_pretrained(backbone(), dict(detector.state_dict()))
    assert not report.missing and set(report.unexpected) == {"head.weight", "head.bias"}


def test_another_size_is_refused_before_anything_changes(source):
    other = create_model("fast_itpn_nano", channels=(16, 32, 64), depths=(1, 1, 2), num_heads=2)
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(CheckpointError, match="no weight of the trunk"):
        load_pretrained(other, official(source))
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_is_refused_and_not_run(tmp_path, legacy):
    path, trap = tmp_path / "bad.pth", tmp_path / "trap"
    torch.save({"model": Attack(str(trap))}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match=r"bad\.pth.*mkdir.*safetensors"):
        load_state_file(path)
    assert not trap.exists()


def test_plain_pickle_is_refused_and_not_run(tmp_path):
    path, trap = tmp_path / "bad.pkl", tmp_path / "trap"
    path.write_bytes(pickle.dumps(Attack(str(trap))))
    with pytest.raises(CheckpointError, match=r"bad\.pkl"):
        load_state_file(path)
    assert not trap.exists()


def test_broken_files(tmp_path, source):
    whole = tmp_path / "whole.pth"
    torch.save(official(source), whole)
    (tmp_path / "cut.pth").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "picture.pth").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "cut.safetensors").write_bytes(b"\x00" * 20)
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    names = ["cut.pth", "empty.pth", "text.pth", "picture.pth", "cut.safetensors", "tensor.pth", "absent.pth"]
    for name in names:
        with pytest.raises(CheckpointError, match=name):
            load_state_file(tmp_path / name)
    with pytest.raises(CheckpointError, match="folder"):
        load_state_file(tmp_path)


def test_unwrap_prefers_the_average_when_asked():
    content = {"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}}
    assert unwrap(content)["a"] == 0 and unwrap(content, prefer_average=True)["a"] == 1


@pytest.mark.parametrize(
    ("keys", "content"),
    [
        ("model_ema", {"model_ema": {"a": torch.ones(1)}}),
        ("state_dict_ema", {"state_dict_ema": {"module.a": torch.ones(1)}}),
        ("trainer.average", {"trainer": {"average": {"a": torch.ones(1)}, "iteration": 3}}),
    ],
)
def test_averages_of_each_training(keys, content):
    stored = find_state({"state_dict": {"a": torch.zeros(1)}, **content}, prefer_average=True)
    assert stored.state["a"] == 1 and ".".join(stored.under) == keys and f"under {keys}" in str(stored)


@pytest.mark.parametrize("other", [{}, {"trainer": {"iteration": 3}}, {"model_ema": None}, {"trainer": [1]}])
def test_without_an_average_it_is_the_weights(other):
    stored = find_state({"model": {"a": torch.zeros(1)}, **other}, prefer_average=True)
    assert stored.state["a"] == 0 and stored.under == ("model",)


def test_atomic_save_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "x.pth"
    atomic_save({"a": 1}, path)
    with pytest.raises(Exception, match="pickle"):
        atomic_save({"a": lambda: None}, path)
    assert load_state_file(path) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("pooling", ["mean_then_norm", "norm_then_mean", "mean_then_batch_norm"])
@pytest.mark.parametrize("final_norm", [None, True])
def test_a_classifier_is_built_as_it_was(pooling, final_norm):
    """Also one of linear probing, with a batch norm before its head."""
    torch.manual_seed(0)
    options = {} if final_norm is None else {"final_norm": final_norm}
    model = create_model(
        "fast_itpn_nano", num_classes=3, pooling=pooling, pos_grid=(2, 2), **options, **MICRO
    )
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    built = create_from_checkpoint({"model": model.state_dict()}, num_heads=2)
    image = torch.randn(2, 3, 32, 32)
    assert torch.equal(built.eval()(image), model.eval()(image))
