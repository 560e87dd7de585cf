"""How long processes wait for one another."""

import itertools
import time
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn

from itpn_d2.checkpoint import Checkpointer
from itpn_d2.engine import Trainer
from itpn_d2.engine.saving import SaveOnSignal
from itpn_d2.engine.timeouts import logger
from tests.engine.forked import forked


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, batch):
        return {"loss": self.linear(batch).mean()}


class AloneAfter(HookBase):
    """The main process works alone after an iteration, as at a checkpoint."""

    def __init__(self, iteration, seconds):
        self.iteration, self.seconds = iteration, seconds

    def after_step(self):
        if self.trainer.iter == self.iteration and comm.is_main_process():
            time.sleep(self.seconds)


def test_only_a_step_is_hurried(tmp_path):
    """A process that is late in the first step ends no run, nor does what the main one does alone; one that
    hangs does."""

    def main():
        def batches():
            for step in itertools.count():
                if comm.get_rank() == 1 and step in (0, 3):
                    time.sleep(5 if step == 0 else 600)
                yield torch.ones(2, 3)

        said = []
        logger.addHandler(SimpleNamespace(level=0, handle=lambda record: said.append(record.getMessage())))
        model = Mean()
        wrapped = nn.parallel.DistributedDataParallel(model)
        trainer = Trainer(wrapped, torch.optim.SGD(model.parameters(), 0.1), timeout_s=3.0)
        trainer.register_hooks([AloneAfter(1, 5), SaveOnSignal(Checkpointer(model))])
        trainer.set_data(batches())
        try:
            trainer.train(0, 10)
        except RuntimeError as error:
            raise RuntimeError(
                f"in iteration {trainer.iter}, {trainer.steps} steps: {error}, {said}"
            ) from error

    began = time.monotonic()
    with pytest.raises(
        RuntimeError, match=r"in iteration 3, 3 steps: .*imed out.*0 has waited train.timeout_s=3"
    ):
        forked(2, main, tmp_path)
    assert time.monotonic() - began < 100
