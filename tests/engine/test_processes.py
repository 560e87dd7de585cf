"""A run goes on with another number of processes, on data that do not divide by it."""

import pytest
import torch
from detectron2.engine import hooks
from detectron2.solver.lr_scheduler import LRMultiplier
from detectron2.utils import comm
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn

from itpn_d2.checkpoint import Checkpointer
from itpn_d2.data.sampler import ResumableBatchSampler
from itpn_d2.engine.hooks import ValidationLoss
from itpn_d2.engine.trainer import Trainer
from itpn_d2.solver import WeightAverage
from tests.engine.forked import forked
from tests.engine.test_trainer import Regressor, batches

BATCH, IMAGES = 8, 13  # epochs end within batches
DATA = next(batches(IMAGES))


def train(folder, start, stop, accumulate=1):
    """From iteration ``start`` to ``stop`` of nine, on this process's share of the data."""
    torch.manual_seed(comm.get_rank())  # processes begin with different weights; the first one's count
    model = Regressor()
    model.body[2].p = 0.0
    distributed = comm.get_world_size() > 1
    wrapped = nn.parallel.DistributedDataParallel(model) if distributed else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    trainer = Trainer(
        wrapped, optimizer, accumulate=accumulate, average=WeightAverage(model, 0.9), log_period=4
    )
    schedule = LRMultiplier(optimizer, CosineParamScheduler(1.0, 0.0), 9)
    checkpointer = Checkpointer(model, str(folder), trainer=trainer)
    unequal = [DATA[i : i + 1] for i in range(comm.get_rank(), 5, comm.get_world_size())]
    trainer.register_hooks(
        [
            hooks.LRScheduler(optimizer, schedule),
            ValidationLoss(3, unequal, model, torch.float32),
            hooks.PeriodicCheckpointer(checkpointer, 1),
        ]
    )
    checkpointer.resume_or_load("", resume=True)
    assert not start or trainer.iter + 1 == start
    sampler = ResumableBatchSampler(
        IMAGES, BATCH // accumulate, 3, comm.get_rank(), comm.get_world_size(), start * accumulate
    )
    trainer.set_data([DATA[record] for _, record in places] for places in sampler)
    trainer.train(start, stop)
    comm.synchronize()
    weights = torch.cat(
        [p.detach().flatten() for m in (model, trainer.average.module) for p in m.parameters()]
    )
    latest = trainer.storage.latest()
    return weights.tolist(), {name: latest[name][0] for name in ("total_loss", "val_loss") if name in latest}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"), 0, 9)


@pytest.mark.parametrize("worlds", [(2, 1, 4), (1, 4, 2), (4, 2, 1)])
def test_on_1_2_and_4(tmp_path, undisturbed, worlds):
    weights, values = undisturbed
    for number, world in enumerate(worlds):
        start, stop = 3 * number, 3 * number + 3
        found = forked(world, lambda start=start, stop=stop: train(tmp_path, start, stop), tmp_path)
        assert all(part[0] == found[0][0] for part in found)
    assert found[0][0] == pytest.approx(weights, abs=2e-5)
    assert found[0][1] == pytest.approx(values, rel=1e-4)


def test_accumulated_and_distributed(tmp_path, undisturbed):
    found = forked(2, lambda: train(tmp_path, 0, 9, accumulate=2), tmp_path)
    assert found[0][0] == pytest.approx(undisturbed[0], abs=2e-5)
