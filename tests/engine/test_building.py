"""A model that is going to be sharded has its values in the first process alone; the others get the same."""

import logging

import pytest
import torch
from detectron2.config import LazyCall
from detectron2.utils import comm
from omegaconf import OmegaConf
from torch import nn

from itpn_d2 import model_zoo
from itpn_d2.engine.building import build_model, in_the_main_process
from itpn_d2.engine.parallel import distribute
from itpn_d2.engine.schema import Training
from itpn_d2.errors import CheckpointError, UseError
from itpn_d2.sharded import whole
from itpn_d2.solver import WeightAverage
from tests.engine.forked import forked
from tests.engine.test_same_run import DETECTORS, MODELS

CPU = torch.device("cpu")


class Reads(nn.Module):
    """A model whose construction reads a value, or keeps a tensor for itself."""

    def __init__(self, way):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        if way == "item":
            self.scale = self.layer.weight.abs().max().item()
        if way == "loose":
            self.kept = [self.layer.weight.detach().clone()]


class Tied(nn.Module):
    """Two names for one parameter, one that does not learn, and buffers of either kind."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.first.bias.requires_grad_(False)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("numbers", torch.rand(3), persistent=False)


def config(name):
    if name in DETECTORS:
        cfg = model_zoo.get_config(f"Quickstart/{name}_fast_itpn_nano", overrides=DETECTORS[name])
    else:
        call = {"tied": Tied, **{way: lambda way=name: Reads(way) for way in ("item", "loose")}}
        cfg = OmegaConf.create({"model": LazyCall({**MODELS, **call}[name])()}, flags={"allow_objects": True})
    cfg.train = Training(parallel="fsdp").model_dump()
    return cfg


def built(name):
    """Whether this process had no values, what it has of the model and its average in the end, and what does
    not learn."""
    torch.manual_seed(comm.get_rank())
    cfg = config(name)
    model = build_model(cfg, CPU).train()
    empty = next(model.parameters()).is_meta
    average = WeightAverage(model)
    distribute(model, cfg, CPU, average=average)
    found = [whole(dict([*m.named_parameters(), *m.named_buffers()])) for m in (model, average.module)]
    assert {tuple(x.shape) for x in model.buffers()} == {tuple(x.shape) for x in average.module.buffers()}
    frozen = [key for key, value in model.named_parameters() if not value.requires_grad]
    return empty, [{key: value.detach().clone() for key, value in state.items()} for state in found], frozen


@pytest.mark.parametrize("name", ["pixel_mim", "mfm", "mask_rcnn", "dino", "tied", "item", "loose"])
def test_the_same_values_everywhere(tmp_path, name):
    torch.manual_seed(0)
    alone = build_model(config(name), CPU)
    expected = dict([*alone.named_parameters(), *alone.named_buffers()])
    frozen = [key for key, value in alone.named_parameters() if not value.requires_grad]
    found = forked(2, lambda: built(name), tmp_path)
    assert [empty for empty, *_ in found] == [False, name not in ("item", "loose")]
    for _, states, still_frozen in found:
        assert still_frozen == frozen
        for state in states:
            assert state.keys() == expected.keys()
            assert all(torch.equal(value, state[key]) for key, value in expected.items())


def test_what_reads_values_is_named(caplog, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    with caplog.at_level(logging.INFO):
        models = [build_model(config(way), CPU) for way in ("item", "loose")]
    assert not any(p.is_meta for model in models for p in model.parameters())
    first, second = [record.getMessage() for record in caplog.records]
    assert "__init__ in test_building.py" in first and "kept is a tensor" in second


def test_models_that_are_not_sharded_have_values(monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    cfg = config("tied")
    assert not next(build_model(cfg, CPU, to_train=False).parameters()).is_meta
    cfg.train.parallel = "ddp"
    assert not next(build_model(cfg, CPU).parameters()).is_meta


def test_what_fails_in_the_main_process_fails_in_all(tmp_path):
    def messages():
        seen, found = [], []

        def fails(error):
            seen.append(error)
            raise error

        for error in (CheckpointError("no.pth: not there"), KeyError("a")):
            try:
                in_the_main_process(lambda error=error: fails(error))
            except (UseError, RuntimeError, KeyError) as raised:
                found.append((isinstance(raised, UseError), str(raised)))
        return len(seen), found

    (first, told), (second, others) = forked(2, messages, tmp_path)
    assert (first, second) == (2, 0) and told == others
    assert told == [(True, "no.pth: not there"), (False, "'a'")]
