"""Stochastic depth and dropout that are drawn by sample."""

import pytest
import timm
import torch
from torch import nn

from itpn_d2 import create_model
from itpn_d2.layers import Draws, DropPath, draw_by_sample, drawing


def test_as_timms_where_nothing_is_drawn():
    torch.manual_seed(0)
    ours, theirs = DropPath(0.3), timm.layers.DropPath(0.3)
    x = torch.randn(64, 3, 5)
    torch.manual_seed(1)
    found = ours(x)
    torch.manual_seed(1)
    torch.testing.assert_close(found, theirs(x))
    assert torch.equal(ours.eval()(x), x)
    assert not DropPath(1.0)(x).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_drops_the_same_paths_in_any_batch(dtype):
    model = draw_by_sample(nn.Sequential(DropPath(0.5), DropPath(0.5)))
    x = torch.ones(200, 1, dtype=dtype)
    with drawing(Draws(0, range(200))):
        whole = model(x)
        again = model(x)  # as a checkpointed block does
    parts = []
    for start in range(0, 200, 50):
        with drawing(Draws(0, range(start, start + 50))):
            parts.append(model(x[:50]))
    assert torch.equal(whole, torch.cat(parts)) and torch.equal(whole, again)
    assert set(whole.unique().tolist()) == {0, 4}
    assert (whole > 0).float().mean().item() == pytest.approx(0.25, abs=0.1)  # the two are independent


def test_dropout():
    model = draw_by_sample(nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.25)))
    x = torch.ones(40, 30, 4, 4)
    with drawing(Draws(0, range(40))):
        whole = model(x)
    with drawing(Draws(0, range(20, 40))):
        assert torch.equal(model(x[20:]), whole[20:])
    assert whole.mean().item() == pytest.approx(1, abs=0.05)
    channels = (whole != 0).flatten(2).any(2)
    assert channels.float().mean().item() == pytest.approx(0.75, abs=0.05)
    torch.manual_seed(0)
    assert model(x).mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(model.eval()(x), x)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "convnext_atto"])
def test_networks_of_timm(name):
    torch.manual_seed(0)
    sizes = {"img_size": 64} if "convnext" not in name else {}
    model = timm.create_model(name, drop_path_rate=0.5, num_classes=0, **sizes).train()
    names = list(model.state_dict())
    draw_by_sample(model)
    assert list(model.state_dict()) == names
    columns = [m.column for m in model.modules() if isinstance(m, DropPath)]
    assert len(columns) > 5 and len(set(columns)) == len(columns)
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad(), drawing(Draws(0, range(4))):
        whole = model(x)
    with torch.no_grad(), drawing(Draws(0, range(2, 4))):
        torch.testing.assert_close(model(x[2:]), whole[2:], rtol=1e-4, atol=1e-5)


def test_a_compiled_block_draws_without_a_graph_for_each_step():
    torch.manual_seed(0)
    trunk = create_model("fast_itpn_nano", drop_path=0.5).train()
    draw_by_sample(trunk)
    block, x = trunk.stage3[-1], torch.randn(4, 9, trunk.channels[2])
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    compiled = torch.compile(block.compute, backend=backend, fullgraph=True)
    for step in range(4):
        with drawing(Draws(0, range(4 * step, 4 * step + 4))):
            torch.testing.assert_close(compiled(x), block.compute(x))
    assert len(graphs) == 1
