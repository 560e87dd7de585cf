"""What RetinaNet and FCOS divide their losses by goes on with the run, and no validation changes it."""

import shutil

import pytest
import torch
from detectron2.engine import hooks

from itpn_d2.checkpoint import Checkpointer, load_state_file
from itpn_d2.checkpoint.write import atomic_save
from itpn_d2.engine.hooks import ValidationLoss
from itpn_d2.engine.trainer import Trainer
from itpn_d2.errors import CheckpointError
from tests.engine.forked import forked
from tests.engine.test_parallel import train as train_in_shards
from tests.engine.test_same_run import MODELS, batches, picture

DENSE = ("retinanet", "fcos")


def train(name, folder, start, stop, more=()):
    """Iterations of a run, from its last checkpoint where there is one; its trainer."""
    torch.manual_seed(0)
    model = MODELS[name]().train()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 1e-2, momentum=0.9), clip_grad_norm=1.0)
    checkpointer = Checkpointer(model, str(folder), trainer=trainer)
    trainer.register_hooks([*(make(model) for make in more), hooks.PeriodicCheckpointer(checkpointer, 2)])
    checkpointer.resume_or_load("", resume=True)
    trainer.set_data(batches(name, 1, start))
    trainer.train(start, stop)
    return trainer


def equal(one, other):
    own, theirs = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in own.items())


def stopped(whole, folder, name="model_0000001.pth"):
    """Make ``folder`` that of a run which was stopped after two iterations."""
    folder.mkdir(exist_ok=True)
    (shutil.copytree if (whole / name).is_dir() else shutil.copy)(whole / name, folder / name)
    (folder / "last_checkpoint").write_text(name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of each detector that nobody disturbs, and its folder."""
    folders = {name: tmp_path_factory.mktemp(name) for name in DENSE}
    return {name: (train(name, folder, 0, 4), folder) for name, folder in folders.items()}


@pytest.mark.parametrize("name", DENSE)
def test_resumed_bit_for_bit(tmp_path, whole, name):
    stopped(whole[name][1], tmp_path)
    resumed = train(name, tmp_path, 2, 4)
    assert equal(resumed, whole[name][0])
    assert resumed.model.loss_normalizer == whole[name][0].model.loss_normalizer


@pytest.mark.parametrize("name", DENSE)
def test_a_validation_changes_nothing(tmp_path, whole, name):
    def validation(model):
        return ValidationLoss(1, [[picture(77)]], model, torch.float32)

    validated = train(name, tmp_path, 0, 4, [validation])
    assert validated.storage.latest()["val_loss"][0] > 0
    assert equal(validated, whole[name][0])


def test_files_of_earlier_versions_and_of_others(tmp_path, whole):
    folder = whole["fcos"][1]
    content = load_state_file(folder / "model_0000001.pth")
    assert not [key for key in content["model"] if "normalizer" in key]  # weights are Detectron2's
    for changed in ({}, {"other": 3.0}):
        content["trainer"]["normalisers"] = changed
        if not changed:
            del content["trainer"]["normalisers"]
        stopped(folder, tmp_path)
        atomic_save(content, tmp_path / "model_0000001.pth")
        resumed = train("fcos", tmp_path, 2, 4)
        assert not equal(resumed, whole["fcos"][0])  # it begins anew


@pytest.mark.parametrize("value", [float("nan"), 0.0, -1.0, "1", None])
def test_a_value_that_is_none(tmp_path, whole, value):
    content = load_state_file(whole["fcos"][1] / "model_0000001.pth")
    assert content["trainer"]["normalisers"].keys() == {""}
    content["trainer"]["normalisers"][""] = value
    stopped(whole["fcos"][1], tmp_path)
    atomic_save(content, tmp_path / "model_0000001.pth")
    with pytest.raises(CheckpointError, match="can't be divided by"):
        train("fcos", tmp_path, 2, 4)


@pytest.mark.parametrize("parallel", ["fsdp", pytest.param("ddp", marks=pytest.mark.slow)])
def test_processes(tmp_path, parallel):
    """Two processes, stopped and resumed, in shards or as copies: the weights of the run that was not."""
    more = dict(parallel=parallel, sharded=parallel == "fsdp")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    expected = forked(2, lambda: train_in_shards("retinanet", whole, 0, 4, **more)[0], tmp_path)
    stopped(whole, parts, f"model_0000001.{'dcp' if more['sharded'] else 'pth'}")
    found = forked(2, lambda: train_in_shards("retinanet", parts, 2, 4, **more)[0], tmp_path)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))
