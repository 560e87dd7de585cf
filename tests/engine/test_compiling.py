"""Blocks that are compiled one by one compute what they did."""

import copy

import pytest
import torch
from torch import nn

from itpn_d2 import create_model
from itpn_d2.engine.compiling import compile_blocks
from itpn_d2.errors import ConfigError

SIZES = dict(channels=(8, 16, 32), depths=(1, 1, 3), num_heads=2, fpn_dim=16)
WAYS = {"plain": {}, "checkpointing": {"checkpointing": "all"}, "migration": {"migration": {}}}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def counting(graphs):
    """A backend that runs the graphs as they are, and keeps them."""

    def backend(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    return backend


@pytest.mark.parametrize(
    "way", ["checkpointing", *(pytest.param(w, marks=pytest.mark.slow) for w in ("plain", "migration"))]
)
def test_two_sizes_and_a_padded_batch(way):
    torch.manual_seed(0)
    model = create_model("fast_itpn_nano", pyramid=True, **SIZES, **WAYS[way]).train()
    compiled, graphs = copy.deepcopy(model), []
    compile_blocks(compiled, dynamic=True, backend=counting(graphs))
    assert compiled.state_dict().keys() == model.state_dict().keys()
    first = 0
    for number, (size, sizes) in enumerate(
        [((96, 64), None), ((64, 128), None), ((96, 128), [(96, 100), (70, 128)]), ((128, 160), None)]
    ):
        images = torch.randn(2, 3, *size)
        for run in (model, compiled):
            run.zero_grad()
            found = run(images, sizes)
            sum(level.square().mean() for level in found.values()).backward()
            if run is model:
                expected = found
        for level, value in expected.items():
            torch.testing.assert_close(found[level], value, atol=1e-5, rtol=1e-5)
        for one, other in zip(model.parameters(), compiled.parameters(), strict=True):
            if one.grad is not None:
                torch.testing.assert_close(other.grad, one.grad, atol=1e-5, rtol=1e-4)
        first = len(graphs) if number == 0 else first
    assert 0 < first <= len(graphs)


@pytest.mark.slow
def test_many_blocks_are_all_compiled():
    """More than torch's limit of graphs, each with a rate of its own."""
    sizes = {**SIZES, "depths": (2, 2, 12)}
    model, graphs = create_model("fast_itpn_nano", pyramid=True, drop_path=0.3, **sizes).train(), []
    compile_blocks(model, dynamic=True, backend=counting(graphs))
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        model(torch.randn(1, 3, 64, 64))
    assert len(graphs) > 8


def test_a_copy_is_not_compiled_and_a_model_without_blocks_is_refused():
    model = create_model("fast_itpn_nano", pyramid=True, **SIZES)
    compile_blocks(model, dynamic=None)
    assert all(m._compiled_call_impl is None for m in copy.deepcopy(model).modules())
    with pytest.raises(ConfigError, match="train.compile=blocks.*no blocks"):
        compile_blocks(nn.Linear(2, 2), dynamic=None)
