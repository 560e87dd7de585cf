"""``train.ddp``: what reaches DistributedDataParallel, and that it trains as without."""

import pytest
import torch
from omegaconf import OmegaConf

from itpn_d2.engine.parallel import distribute
from itpn_d2.engine.schema import Ddp, defaults
from itpn_d2.engine.trainer import Trainer
from itpn_d2.errors import ConfigError
from tests.engine.forked import forked
from tests.engine.test_nothing_is_lost import small
from tests.engine.test_trainer import Regressor, batches

WAYS = {
    "plain": {"gradient_as_bucket_view": False},
    "default": {},
    "unused": {"find_unused_parameters": True},
    "static": {"static_graph": True},
    "small buckets": {"bucket_cap_mb": 0.0001},
    "bf16": {"compress": "bf16"},
}


def config(**settings):
    return OmegaConf.create({"train": {"parallel": "ddp", "ddp": {**defaults(Ddp), **settings}}})


def train_all_ways():
    found = {}
    for name, settings in WAYS.items():
        torch.manual_seed(0)
        wrapped = distribute(Regressor(), config(**settings), torch.device("cpu"))
        trainer = Trainer(wrapped, torch.optim.SGD(wrapped.parameters(), 0.01), seed=1)
        trainer.set_data(batches(4, 100 * torch.distributed.get_rank()))
        trainer.train(0, 4)
        weights = torch.cat([p.detach().flatten() for p in wrapped.parameters()])
        reached = {key: getattr(wrapped, key) for key in WAYS["plain"] | WAYS["unused"] | WAYS["static"]}
        found[name] = weights, reached, wrapped.bucket_bytes_cap
    return found


def test_every_setting(tmp_path):
    one, other = forked(2, train_all_ways, tmp_path)
    plain = one["plain"][0]
    for name, (weights, reached, cap) in one.items():
        assert torch.equal(weights, other[name][0]), name
        error = (weights - plain).abs().max()
        assert error == 0 if name in ("default", "unused", "static") else error < 1e-2, name
        wanted = {"gradient_as_bucket_view": True, "find_unused_parameters": False, "static_graph": False}
        assert reached == {**wanted, **{k: v for k, v in WAYS[name].items() if k in wanted}}, name
        assert cap == (104 if name == "small buckets" else 25 * 2**20)
    assert (one["small buckets"][0] - plain).abs().max() < 1e-6
    assert not torch.equal(one["bf16"][0], plain)


def test_one_process_needs_no_wrapper():
    model = Regressor()
    assert distribute(model, config(), torch.device("cpu")) is model


def test_static_graphs_and_accumulation_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match="train.ddp.static_graph=True with train.accumulate=2"):
        small(tmp_path, "train.ddp.static_graph=True", "train.accumulate=2")


def test_shards_are_saved_of_shards(tmp_path):
    with pytest.raises(ConfigError, match="checkpointer.sharded=True with train.parallel=ddp.*fsdp"):
        small(tmp_path, "train.checkpointer.sharded=True")
    for parallel in ("fsdp", "hsdp"):
        small(tmp_path, "train.checkpointer.sharded=True", f"train.parallel={parallel}")
