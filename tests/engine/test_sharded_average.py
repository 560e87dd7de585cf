"""The moving average of a sharded run is evaluated as that of a whole one, on any number of images each."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.utils import comm
from torch.distributed.tensor import DTensor

from itpn_d2 import create_model
from itpn_d2.engine.parallel import distribute, gathered
from itpn_d2.sharded import is_sharded
from itpn_d2.solver import WeightAverage
from tests.engine.forked import forked
from tests.engine.test_parallel import CPU, settings

IMAGES = 3


def evaluated(only_first=False):
    """What trunk and average give for this process's images, before, meanwhile and afterwards."""
    torch.manual_seed(3)
    model = create_model("fast_itpn_nano", channels=[8, 16, 32], depths=[1, 1, 2], num_heads=2).eval()
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        for p in average.module.parameters():
            p.add_(torch.randn_like(p) / 10)
    images = torch.randn(IMAGES, 3, 32, 32)
    share = images[comm.get_rank() :: comm.get_world_size()]  # of two processes, one has more
    if only_first:
        share = images if comm.is_main_process() else images[:0]
    trainer = SimpleNamespace(
        model=distribute(model, settings("fsdp"), CPU, average=average), average=average
    )

    @torch.no_grad()
    def outputs():
        return [trainer.model(image[None])[-1] for image in share]

    with gathered(trainer):
        before = outputs()
        with average.swapped_into(model):
            meanwhile = outputs()
        after = outputs()
    if comm.get_world_size() > 1:
        assert is_sharded(model) and all(isinstance(p, DTensor) for p in average.module.parameters())
    return before, meanwhile, after


@pytest.mark.parametrize("only_first", [False, True])
def test_the_average_of_shards_is_evaluated_as_of_one_process(tmp_path, only_first):
    """Also where a process has no image, and so does not ask for weights."""
    alone = evaluated()
    assert (alone[0][0] - alone[1][0]).abs().max() > 1e-2
    for rank, found in enumerate(forked(2, lambda: evaluated(only_first), tmp_path)):
        places = range(rank, IMAGES, 2) if not only_first else range(IMAGES) if rank == 0 else ()
        for one, other in zip(alone, found, strict=True):
            assert len(other) == len(places)
            for place, output in zip(places, other, strict=True):
                torch.testing.assert_close(output, one[place], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[0], found[2], rtol=0, atol=0)
