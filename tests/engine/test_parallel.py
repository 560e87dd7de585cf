"""Shards of a model train, evaluate, save and resume as a whole model does."""

from functools import partial

import pytest
import torch
from detectron2.engine import hooks
from detectron2.utils import comm
from omegaconf import OmegaConf
from torch.distributed.tensor import DTensor
from torch.utils._pytree import tree_leaves

from itpn_d2.checkpoint import Checkpointer, load_state_file
from itpn_d2.engine.hooks import ValidationLoss
from itpn_d2.engine.parallel import distribute
from itpn_d2.engine.saving import BestCheckpoint, FinishSaving
from itpn_d2.engine.schema import Training
from itpn_d2.engine.trainer import Trainer
from itpn_d2.errors import ConfigError
from itpn_d2.sharded import is_sharded, whole
from itpn_d2.solver import WeightAverage, parameter_groups
from tests.engine.forked import forked
from tests.engine.test_same_run import MODELS, AfterStep, batches, detector, picture

CPU = torch.device("cpu")
# convolutions round otherwise on gathered weights, which Adam blows up
KINDS = (partial(torch.optim.AdamW, eps=1e-3), partial(torch.optim.SGD, momentum=0.9))

ACCELERATED = [
    "model.backbone.gathering={window: 2, tokens: 2}",
    "model.backbone.migration={keep: 0.6, affine: true}",
    "model.backbone.checkpointing=all",
]


def settings(parallel, **fsdp):
    return OmegaConf.create({"train": Training(parallel=parallel, fsdp=fsdp).model_dump()})


def train(
    name,
    folder,
    start=0,
    stop=6,
    parallel="fsdp",
    accumulate=1,
    dtype=torch.float32,
    sharded=False,
    more=(),
    **fsdp,
):
    """Iterations of a run that saves after each second one; its weights, whole, and those of its average."""
    torch.manual_seed(comm.get_rank())  # the first process's weights are everybody's
    model = MODELS[name]().train()
    average = WeightAverage(model, 0.9)
    wrapped = distribute(model, settings(parallel, **fsdp), CPU, dtype, average)
    groups = parameter_groups(model, 3e-3, layer_decay=0.8)
    trainer = Trainer(
        wrapped, KINDS[name == "mask_rcnn"](groups), dtype, accumulate, 1.0, average, log_period=2
    )
    checkpointer = Checkpointer(model, str(folder), sharded=sharded, trainer=trainer)
    share = [[picture(position)] for position in range(comm.get_rank(), 3, comm.get_world_size())]
    known = [AfterStep()]
    if name == "mask_rcnn":
        known.append(ValidationLoss(3, share, model, dtype))
        known.append(BestCheckpoint(3, "val_loss", checkpointer, mode="min"))
    saving = [FinishSaving(checkpointer), hooks.PeriodicCheckpointer(checkpointer, 2)]
    trainer.register_hooks([*known, *saving, *more])
    checkpointer.resume_or_load("", resume=True)
    trainer.set_data(batches(name, accumulate, start))
    trainer.train(start, stop)
    comm.synchronize()
    assert is_sharded(model) == (comm.get_world_size() > 1 and parallel != "ddp")
    kept = [
        torch.cat([p.detach().flatten() for p in whole(list(m.parameters()))])
        for m in (model, average.module)
    ]
    local = sum(p.to_local().numel() for p in model.parameters() if isinstance(p, DTensor))
    return *kept, trainer.storage.latest(), local


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    known = {}

    def find(name):
        if name not in known:
            known[name] = train(name, tmp_path_factory.mktemp(name))
        return known[name]

    return find


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mfm", {}),
        ("mfm", {"accumulate": 2}),
        ("mask_rcnn", {}),
        pytest.param("pixel_mim", {}, marks=pytest.mark.slow),
        pytest.param("dino", {}, marks=pytest.mark.slow),
        pytest.param("mask_dino", {}, marks=pytest.mark.slow),
    ],
)
def test_two_shards_train_as_one_process(tmp_path, alone, name, options):
    weights, average, latest, _ = alone(name)
    found = forked(2, lambda: train(name, tmp_path, **options), tmp_path)
    for own, averaged, *_ in found:
        assert (own - weights).abs().max() < 1e-5 and (averaged - average).abs().max() < 1e-5
    assert sum(local for *_, local in found) == len(weights)
    assert 0.3 < found[0][-1] / len(weights) < 0.7
    content = load_state_file(tmp_path / "model_final.pth")
    assert not [x for x in tree_leaves(content) if isinstance(x, DTensor)]
    if name == "mask_rcnn":
        best = load_state_file(tmp_path / "model_best.pth")
        assert best["model"].keys() == content["model"].keys()
        assert found[0][2]["total_loss"][0] == pytest.approx(latest["total_loss"][0], rel=1e-4)
        assert found[0][2]["val_loss"][0] == pytest.approx(latest["val_loss"][0], rel=2e-2)  # other proposals


def test_a_run_changes_its_processes(tmp_path, alone):
    """Two shards, then one process, then four shards in two groups, then two copies."""
    weights, average, *_ = alone("mfm")
    forked(2, lambda: train("mfm", tmp_path, 0, 2), tmp_path)
    train("mfm", tmp_path, 2, 4)
    forked(4, lambda: train("mfm", tmp_path, 4, 5, "hsdp", shards=2), tmp_path)
    for own, averaged, *_ in forked(2, lambda: train("mfm", tmp_path, 5, 6, "ddp"), tmp_path):
        assert (own - weights).abs().max() < 1e-5 and (averaged - average).abs().max() < 1e-5


def test_half_precision(tmp_path):
    shards = forked(2, lambda: train("mfm", tmp_path / "shards", dtype=torch.bfloat16)[0], tmp_path)[0]
    copies = forked(2, lambda: train("mfm", tmp_path / "copies", 0, 6, "ddp", 1, torch.bfloat16)[0], tmp_path)
    assert (shards - copies[0]).abs().max() < 1e-3


def test_tokens_leave_and_are_gathered_in_half_precision(tmp_path):
    def run(parallel):
        MODELS["mask_rcnn"] = partial(detector, "mask_rcnn", ACCELERATED)
        folder = tmp_path / parallel
        return train("mask_rcnn", folder, 0, 3, parallel=parallel, dtype=torch.bfloat16)[0]

    shards = forked(2, lambda: run("fsdp"), tmp_path)[0]
    copies = forked(2, lambda: run("ddp"), tmp_path)[0]
    assert (shards - copies).abs().max() < 3e-4


def test_what_does_not_go_together(tmp_path):
    def messages():
        found = []
        for parallel, dtype, fsdp in (
            ("fsdp", torch.float16, {}),
            ("hsdp", torch.float32, {"shards": 3}),
        ):
            try:
                distribute(MODELS["mfm"](), settings(parallel, **fsdp), CPU, dtype)
            except ConfigError as error:
                found.append(str(error))
        return found

    half, groups = forked(2, messages, tmp_path)[0]
    assert "train.amp.dtype=fp16" in half and "train.fsdp.shards=3: 2 processes" in groups
